package secrets

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Kind is what becomes of a placeholder for a host that may not have the secret.
type Kind string

// The kinds. All but KindPassthrough end the connection.
const (
	KindBlock       Kind = "block"               // in silence
	KindLog         Kind = "block-and-log"       // the default
	KindTerminate   Kind = "block-and-terminate" // and end the sandbox
	KindPassthrough Kind = "passthrough"         // send the placeholder to certain hosts as it is
)

// kindAliases are other spellings that configurations have.
var kindAliases = map[string]Kind{
	"Block": KindBlock, "BlockAndLog": KindLog, "block_and_log": KindLog,
	"BlockAndTerminate": KindTerminate, "block_and_terminate": KindTerminate, "Passthrough": KindPassthrough,
}

// Action is a kind with its hosts.
type Action struct {
	Kind  Kind
	Hosts []HostPattern // of KindPassthrough
}

// MarshalJSON writes a word, or {"passthrough": [...]}.
func (a Action) MarshalJSON() ([]byte, error) {
	if a.Kind != KindPassthrough {
		return json.Marshal(string(a.Kind))
	}
	hosts := a.Hosts
	if hosts == nil {
		hosts = []HostPattern{}
	}
	return json.Marshal(map[Kind][]HostPattern{KindPassthrough: hosts})
}

// UnmarshalJSON reads what MarshalJSON writes, and other spellings of it.
func (a *Action) UnmarshalJSON(b []byte) error {
	var word string
	if json.Unmarshal(b, &word) == nil {
		k, err := kindOf(word)
		if err == nil && k == KindPassthrough {
			err = fmt.Errorf("violation action passthrough names no hosts")
		}
		*a = Action{Kind: k}
		return err
	}
	var object map[string][]HostPattern
	if err := json.Unmarshal(b, &object); err != nil {
		return fmt.Errorf("violation action: %w", err)
	}
	if len(object) != 1 {
		return fmt.Errorf("violation action has %d keys, want one", len(object))
	}
	for key, hosts := range object {
		k, err := kindOf(key)
		if err != nil {
			return err
		}
		if k != KindPassthrough {
			return fmt.Errorf("violation action %s takes no hosts", k)
		}
		*a = Action{Kind: k, Hosts: hosts}
	}
	return nil
}

func kindOf(word string) (Kind, error) {
	switch k := Kind(word); k {
	case KindBlock, KindLog, KindTerminate, KindPassthrough:
		return k, nil
	}
	if k, ok := kindAliases[word]; ok {
		return k, nil
	}
	return "", fmt.Errorf("violation action %q is unknown: choose block, block-and-log, block-and-terminate or passthrough", word)
}

// severity orders the kinds that block.
func (k Kind) severity() int {
	return slices.Index([]Kind{KindBlock, KindLog, KindTerminate}, k)
}
