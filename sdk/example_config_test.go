package microsandbox_test

import (
	"context"
	"fmt"

	microsandbox "github.com/gomsb/gomsb/sdk"
)

// Errors have kinds, whatever wraps them.
func ExampleIsKind() {
	_, err := microsandbox.CreateSandbox(context.Background(), "not a name", microsandbox.WithImage("debian"))
	if microsandbox.IsKind(err, microsandbox.ErrInvalidConfig) {
		fmt.Println("choose another name")
	}
	// Output: choose another name
}

// A policy of one's own: a registry of packages, and nothing else.
func ExampleParsePolicyRules() {
	rules, err := microsandbox.ParsePolicyRules("allow@pypi.org:tcp:443")
	if err != nil {
		fmt.Println(err)
		return
	}
	n := &microsandbox.NetworkConfig{Rules: append(rules, microsandbox.Rule.AllowDNS())}
	for _, r := range n.Rules {
		fmt.Println(r.Action, r.Destination, r.Ports)
	}
	// Output:
	// allow pypi.org [443]
	// allow host [53]
}

// The profiles of a policy open parts of the world.
func ExampleNetworkPolicy() {
	n := microsandbox.NetworkPolicy.FromProfiles(microsandbox.NetworkProfilePublic, microsandbox.NetworkProfileHost)
	for _, r := range n.Rules {
		fmt.Println(r.Action, r.Destination)
	}
	fmt.Println(n.DefaultEgress, "everything else")
	// Output:
	// allow host
	// allow public
	// allow host
	// deny everything else
}

// A secret shows its name only.
func ExampleSecret() {
	s := microsandbox.Secret.Env("API_KEY", "s3same", microsandbox.SecretEnvOptions{AllowHosts: []string{"api.example.com"}})
	fmt.Println(s)
	// Output: secret API_KEY
}
