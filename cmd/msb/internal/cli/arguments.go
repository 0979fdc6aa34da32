package cli

import (
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// positional is one argument of a command, as its usage line shows it.
type positional struct {
	text     string
	required bool
	many     bool
}

// positionals reads the arguments of a command off its usage line: <NAME>, [NAME],
// <NAMES>..., and [-- COMMAND...] for all that follows --.
func positionals(c *cobra.Command) (all []positional) {
	line, command, dashed := strings.Cut(strings.TrimPrefix(c.Use, c.Name()), "[--")
	for _, word := range strings.Fields(line) {
		all = append(all, positional{word, strings.HasPrefix(word, "<"), strings.HasSuffix(word, "...")})
	}
	if dashed {
		all = append(all, positional{text: "[--" + command})
	}
	return all
}

// checkArguments tells whether a command has what its usage line and its flags ask for, and no more.
func checkArguments(c *cobra.Command, args []string) error {
	if err := conflict(c); err != nil {
		return err
	}
	before := args
	if dash := c.ArgsLenAtDash(); dash >= 0 && strings.Contains(c.Use, "[--") {
		before = args[:dash]
	}
	var missing []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if len(f.Annotations[cobra.BashCompOneRequiredFlag]) > 0 && !f.Changed {
			missing = append(missing, argument(c, f))
		}
	})
	room := 0
	for _, p := range positionals(c) {
		switch {
		case strings.HasPrefix(p.text, "[--"):
			continue
		case p.many:
			room = max(room+1, len(before))
		default:
			room++
		}
		if p.required && room > len(before) {
			missing = append(missing, p.text)
		}
	}
	if len(missing) > 0 {
		return lacking(missing...)
	}
	if len(before) > room {
		return unexpected(before[room])
	}
	return nil
}

func lacking(what ...string) error {
	return usage("the following required arguments were not provided:\n  %s", strings.Join(what, "\n  "))
}

func unexpected(arg string) error { return usage("unexpected argument '%s' found", arg) }

// conflictsWith is the annotation of a flag with those that it cannot be used with.
const conflictsWith = "gomsb_conflicts_with"

// exclusive declares that at most one of these flags may be given.
func exclusive(flags *pflag.FlagSet, names ...string) {
	for i, name := range names {
		f := flags.Lookup(name)
		if f.Annotations == nil {
			f.Annotations = map[string][]string{}
		}
		f.Annotations[conflictsWith] = append(f.Annotations[conflictsWith], names[i+1:]...)
	}
}

func conflict(c *cobra.Command) (err error) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		for _, name := range f.Annotations[conflictsWith] {
			if other := c.Flags().Lookup(name); f.Changed && other.Changed && err == nil {
				err = usage("the argument '%s' cannot be used with '%s'", argument(c, f), argument(c, other))
			}
		}
	})
	return err
}

// badFlag says what is wrong with a flag in the words of the other mistakes.
func badFlag(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var empty *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		if unknown.GetSpecifiedShortnames() != "" {
			return unexpected("-" + name)
		}
		return unexpected("--" + name)
	case errors.As(err, &empty):
		return usage("a value is required for '%s' but none was supplied", argument(c, empty.GetFlag()))
	case errors.As(err, &invalid):
		return badValue(invalid.GetValue(), argument(c, invalid.GetFlag()), invalid.Unwrap())
	}
	return usageError{err}
}

// choice is the error of a value that is none of these.
type choice []string

func (c choice) Error() string { return "[possible values: " + strings.Join(c, ", ") + "]" }

func badValue(value, argument string, cause error) error {
	var possible choice
	switch {
	case errors.As(cause, &possible):
		return usage("invalid value '%s' for '%s'\n  %w", value, argument, possible)
	case errors.Is(cause, strconv.ErrSyntax):
		return usage("invalid value '%s' for '%s': invalid digit found in string", value, argument)
	case errors.Is(cause, strconv.ErrRange):
		return usage("invalid value '%s' for '%s': number too large", value, argument)
	}
	return usage("invalid value '%s' for '%s': %w", value, argument, cause)
}
