package dns

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	headerSize = 12
	// plainSize is how large an answer by datagram may be without EDNS (RFC 1035 §4.2.1).
	plainSize = 512
	// maxChain bounds the aliases that an answer may lead through.
	maxChain = 16
)

// query is a question of the guest's.
type query struct {
	header   dnsmessage.Header
	question dnsmessage.Question
	count    int // of questions
	size     int // how large an answer by datagram may be
}

// parseQuery reads a message; ok is false if it is no question that could be answered.
func parseQuery(m []byte) (q query, ok bool) {
	var p dnsmessage.Parser
	var err error
	if q.header, err = p.Start(m); err != nil || q.header.Response {
		return q, false
	}
	q.count = int(binary.BigEndian.Uint16(m[4:]))
	if q.question, err = p.Question(); err != nil {
		return q, false
	}
	q.size = ednsSize(&p)
	return q, true
}

// ednsSize is what the sender can take by datagram; p is after the first question.
func ednsSize(p *dnsmessage.Parser) int {
	if p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return plainSize
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			return plainSize
		}
		if h.Type == dnsmessage.TypeOPT {
			return max(plainSize, int(h.Class))
		}
		if p.SkipAdditional() != nil {
			return plainSize
		}
	}
}

// reply is an answer of ours with a code and perhaps an address.
func (q *query) reply(code dnsmessage.RCode, a netip.Addr) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: q.header.ID, Response: true, OpCode: q.header.OpCode, RecursionDesired: q.header.RecursionDesired,
		RecursionAvailable: true, RCode: code, Authoritative: a.IsValid(),
	})
	b.EnableCompression()
	h := dnsmessage.ResourceHeader{Name: q.question.Name, Class: dnsmessage.ClassINET, TTL: aliasTTL}
	err := errors.Join(b.StartQuestions(), b.Question(q.question))
	switch {
	case a.Is4():
		err = errors.Join(err, b.StartAnswers(), b.AResource(h, dnsmessage.AResource{A: a.As4()}))
	case a.Is6():
		err = errors.Join(err, b.StartAnswers(), b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: a.As16()}))
	}
	m, finish := b.Finish()
	if err != nil || finish != nil {
		return nil
	}
	return m
}

// truncated is an answer that asks for the question to be put by TCP.
func (q *query) truncated() []byte {
	m := q.reply(dnsmessage.RCodeSuccess, netip.Addr{})
	if m != nil {
		m[2] |= 2 // TC
	}
	return m
}

// answer is what an upstream server said.
type answer struct {
	header dnsmessage.Header
	addrs  []netip.Addr // of all address records
	// bound are the addresses that the question's name leads to, ttl how long.
	bound []netip.Addr
	ttl   uint32 // seconds
}

var errNoAnswer = errors.New("not an answer to the question")

// matches reports that m is an answer with this identifier to the question.
func (q *query) matches(m []byte, id uint16) bool {
	var p dnsmessage.Parser
	h, err := p.Start(m)
	if err != nil || !h.Response || h.ID != id {
		return false
	}
	got, err := p.Question()
	return err == nil && got.Type == q.question.Type && got.Class == q.question.Class && strings.EqualFold(got.Name.String(), q.question.Name.String())
}

// record is one address of an answer.
type record struct {
	owner string
	addr  netip.Addr
	ttl   uint32
}

type alias struct {
	target string
	ttl    uint32
}

// parseAnswer reads the answer section of m, which matches the question.
func (q *query) parseAnswer(m []byte) (*answer, error) {
	var p dnsmessage.Parser
	a := &answer{}
	var err error
	if a.header, err = p.Start(m); err != nil {
		return nil, err
	}
	if err := p.SkipAllQuestions(); err != nil {
		return nil, err
	}
	var records []record
	aliases := make(map[string]alias)
	for {
		h, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return nil, err
		}
		owner := strings.ToLower(h.Name.String())
		switch {
		case h.Class == dnsmessage.ClassINET && h.Type == dnsmessage.TypeA:
			r, err := p.AResource()
			if err != nil {
				return nil, err
			}
			records = append(records, record{owner, netip.AddrFrom4(r.A), h.TTL})
		case h.Class == dnsmessage.ClassINET && h.Type == dnsmessage.TypeAAAA:
			r, err := p.AAAAResource()
			if err != nil {
				return nil, err
			}
			records = append(records, record{owner, netip.AddrFrom16(r.AAAA), h.TTL})
		case h.Class == dnsmessage.ClassINET && h.Type == dnsmessage.TypeCNAME:
			r, err := p.CNAMEResource()
			if err != nil {
				return nil, err
			}
			aliases[owner] = alias{strings.ToLower(r.CNAME.String()), h.TTL}
		default:
			if err := p.SkipAnswer(); err != nil {
				return nil, err
			}
		}
	}
	for _, r := range records {
		a.addrs = append(a.addrs, r.addr)
	}
	if a.header.RCode == dnsmessage.RCodeSuccess {
		a.bind(strings.ToLower(q.question.Name.String()), q.question.Type == dnsmessage.TypeAAAA, records, aliases)
	}
	return a, nil
}

// bind collects the addresses of one family that name leads to.
func (a *answer) bind(name string, v6 bool, records []record, aliases map[string]alias) {
	a.ttl = 1<<32 - 1
	owners := map[string]bool{name: true}
	for range maxChain {
		next, ok := aliases[name]
		if !ok {
			break
		}
		a.ttl = min(a.ttl, next.ttl)
		name = next.target
		owners[name] = true
	}
	for _, r := range records {
		if owners[r.owner] && r.addr.Is6() == v6 {
			a.bound = append(a.bound, r.addr)
			a.ttl = min(a.ttl, r.ttl)
		}
	}
}
