package runtime

import "errors"

func newMachine(MachineConfig) (Machine, error) { return nil, errors.New("x") }
