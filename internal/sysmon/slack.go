package sysmon

import "time"

// UsualSlack is the timer slack of a thread that nobody has given another.
const UsualSlack = 50 * time.Microsecond
