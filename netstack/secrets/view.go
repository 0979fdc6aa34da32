package secrets

import (
	"cmp"
	"net/netip"
	"slices"
)

// use is what is done with a placeholder on a connection.
type use uint8

const (
	ignore     use = iota // send it as it is
	substitute            // where its Injection says
	violate
)

// word is a placeholder as one connection sees it.
type word struct {
	text   string
	use    use
	secret *Secret
	action Kind // of violate
}

// view is all placeholders, each once, as one connection sees them, longer ones first.
type view struct {
	words    []word
	longest  int
	violates bool      // a word is a violation
	injects  Injection // what some word is substituted in
}

// identity is how sure it is to whom a connection leads.
type identity uint8

const (
	named    identity = iota // to Connection.Host, if the address is that host's
	nameless                 // nobody knows
)

// view decides what the connection c may have.
func (cfg *Config) view(c Connection, w *Where, id identity) *view {
	v := &view{}
	onlyAny := !slices.ContainsFunc(cfg.Secrets, func(s Secret) bool { return !anyHost(s.Hosts) })
	for i := range cfg.Secrets {
		s := &cfg.Secrets[i]
		o := word{text: s.Placeholder, secret: s}
		switch eligible := !c.Connect && (id == named && w.match(c, s.Hosts) || id == nameless && onlyAny); {
		case eligible && (c.Intercepted || !s.RequireTLS):
			o.use = substitute
		case eligible:
		default:
			o.action = cfg.action(c, w, s)
			if o.action != KindPassthrough {
				o.use = violate
			}
			v.add(o)
			continue
		}
		v.prefer(o)
	}
	for _, o := range v.words {
		v.longest = max(v.longest, len(o.text))
		v.violates = v.violates || o.use == violate
		if o.use == substitute {
			in := o.secret.Injection
			v.injects.Headers = v.injects.Headers || in.Headers
			v.injects.BasicAuth = v.injects.BasicAuth || in.BasicAuth
			v.injects.QueryParams = v.injects.QueryParams || in.QueryParams
			v.injects.Body = v.injects.Body || in.Body
		}
	}
	v.sort()
	return v
}

func (v *view) sort() {
	slices.SortStableFunc(v.words, func(a, b word) int { return cmp.Compare(len(b.text), len(a.text)) })
}

// encoded is the view with the percent-encoded forms of its words too.
func (v *view) encoded() *view {
	both := view{words: slices.Clone(v.words)}
	for _, o := range v.words {
		if text := string(percentEncode(nil, o.text)); both.index(text) < 0 {
			o.text = text
			both.words = append(both.words, o)
		}
	}
	both.sort()
	return &both
}

func (v *view) index(text string) int {
	return slices.IndexFunc(v.words, func(o word) bool { return o.text == text })
}

// add adds a word of a secret that is not for this connection: one that is takes
// precedence, and else the strictest.
func (v *view) add(o word) {
	i := v.index(o.text)
	switch {
	case i < 0:
		v.words = append(v.words, o)
	case v.words[i].use == violate && o.use == violate && o.action.severity() > v.words[i].action.severity(),
		v.words[i].action == KindPassthrough && o.use == violate:
		v.words[i] = o
	}
}

// prefer adds a word of a secret that is for this connection; the first is taken, but one
// that may be substituted before one that may not.
func (v *view) prefer(o word) {
	i := v.index(o.text)
	switch {
	case i < 0:
		v.words = append(v.words, o)
	case v.words[i].action != "" || v.words[i].use == ignore:
		v.words[i] = o
	}
}

// idle reports that the connection's bytes need not be looked at.
func (v *view) idle() bool {
	return !slices.ContainsFunc(v.words, func(o word) bool { return o.use != ignore })
}

// action is what becomes of a placeholder that is not for the connection.
func (cfg *Config) action(c Connection, w *Where, s *Secret) Kind {
	own := s.OnViolation
	if own != nil && (own.Kind != KindPassthrough || w.match(c, own.Hosts)) {
		return own.Kind
	}
	if all := cfg.OnViolation; all.Kind != "" && (all.Kind != KindPassthrough || w.match(c, all.Hosts)) {
		return all.Kind
	}
	return KindLog
}

func anyHost(list []HostPattern) bool { return slices.ContainsFunc(list, HostPattern.IsAny) }

// match reports whether a connection leads to one of the hosts. It is not enough that the
// guest says so: it must have been told the address for a name of theirs.
func (w *Where) match(c Connection, hosts []HostPattern) bool {
	return slices.ContainsFunc(hosts, func(p HostPattern) bool {
		switch {
		case p.IsAny():
			return true
		case c.Host == "" || !p.Fits(c.Host):
			return false
		case c.Tunnel || c.Connect:
			return true
		case c.Host == w.Alias && slices.Contains(w.Gateways, unmap(c.Dst)):
			return true
		}
		return w.Names.Bound(c.Dst.Addr(), p)
	})
}

func unmap(a netip.AddrPort) netip.Addr { return a.Addr().Unmap() }
