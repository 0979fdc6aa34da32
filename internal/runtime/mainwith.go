package runtime

// MainWith is Main with machines of another kind: tests of controllers run whole
// sandboxes without a hypervisor.
func MainWith(args []string, build Factory) int {
	p := program{build: build, timeout: readyTimeout}
	return p.main(args)
}
