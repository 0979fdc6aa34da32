package launch

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
)

// That a sandbox is paused is not in its row: official programs of 0.6.18 know the word, but
// neither stop nor kill nor remove a sandbox that has it. A symbolic link beside its agent
// socket says so, whose target is the number of the process that paused it: if that is not
// the sandbox's runtime any more, the link means nothing.

func pausedLink(agent string) string { return agent + ".paused" }

// MarkPaused records that process pid, the runtime of the sandbox with that agent socket,
// has paused it.
func MarkPaused(agent string, pid int) error {
	if err := UnmarkPaused(agent); err != nil {
		return err
	}
	return os.Symlink(strconv.Itoa(pid), pausedLink(agent))
}

// UnmarkPaused records that it runs.
func UnmarkPaused(agent string) error {
	if err := os.Remove(pausedLink(agent)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// PausedBy is the process that paused the sandbox with that agent socket, 0 if none did.
func PausedBy(agent string) int {
	text, err := os.Readlink(pausedLink(agent))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return pid
}
