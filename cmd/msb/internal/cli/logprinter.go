package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

// logPrinter prints log entries in the form that the flags ask for.
type logPrinter struct {
	*app
	*logFlags
	coloured bool // what commands coloured stays so, and sessions have colours
}

func (l *logFlags) printer(a *app) *logPrinter {
	_, tty := ui.Terminal(a.Out)
	wanted := l.color == "always" || l.color == "auto" && tty
	return &logPrinter{a, l, wanted && !l.noColor && os.Getenv("NO_COLOR") == ""}
}

// milliseconds is how logs show a time.
const milliseconds = "2006-01-02T15:04:05.000Z07:00"

// printBootFailure says before the logs that the last start failed.
func (a *app) printBootFailure(l *logFlags, name string, f *msb.BootFailure) {
	if !l.asJSON {
		a.reportBoot(&msb.StartError{Name: name, Failure: f})
		fmt.Fprintln(a.Err)
		return
	}
	at := f.Time.UTC().Format(milliseconds)
	text, _ := json.Marshal(struct { // nothing in it can fail
		T       string `json:"t"`
		Stage   string `json:"stage"`
		Errno   *int   `json:"errno"`
		Message string `json:"message"`
	}{at, f.Stage, f.Errno, f.Message})
	a.printLine(map[string]any{"t": at, "s": "boot-error", "d": string(text)})
}

// printLine prints one of the JSON Lines.
func (a *app) printLine(v any) {
	e := json.NewEncoder(a.Out)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // nothing in it can fail but the writing
}

func (p *logPrinter) print(e msb.LogEntry) {
	switch {
	case p.pattern != nil && !p.pattern.Match(e.Data):
	case p.asJSON:
		p.printJSON(e)
	default:
		p.printText(e)
	}
}

func (p *logPrinter) printJSON(e msb.LogEntry) {
	type line struct {
		D  string  `json:"d"`
		E  *string `json:"e"`
		ID *uint64 `json:"id"`
		S  string  `json:"s"`
		T  string  `json:"t"`
	}
	out := line{T: e.Timestamp.UTC().Format(milliseconds), S: string(e.Source), D: e.Text(), ID: e.SessionID}
	if !utf8.Valid(e.Data) {
		enc := "b64"
		out.E, out.D = &enc, base64.StdEncoding.EncodeToString(e.Data)
	}
	p.printLine(out)
}

// sequences are what terminals take for commands: CSI, OSC, and ESC with a letter, and
// what begins like one and does not end.
var sequences = regexp.MustCompile("\x1b(?:\\[[0-?]*[ -/]*[@-~]?|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[ -/]*[0-Z\\\\^-~]?)")

// printText prints an entry as its command printed it, or, with prefixes, line by line.
func (p *logPrinter) printText(e msb.LogEntry) {
	data := e.Data
	if !p.coloured {
		data = sequences.ReplaceAll(data, nil)
	}
	if e.Source == msb.LogSourceSystem {
		data = []byte(ui.Plain(strings.ReplaceAll(string(data), "\r\n", "\n"))) // a guest's console, shown to somebody who diagnoses it
	}
	begin, end := "", ""
	if p.coloured && p.colorBySess && e.SessionID != nil {
		begin, end = fmt.Sprintf("\x1b[%dm", sessionColours[*e.SessionID%uint64(len(sessionColours))]), "\x1b[0m"
	}
	stamp, session := p.prefixes(e, begin, end)
	if stamp+session == "" {
		_, _ = p.Out.Write(data) // as with every print
		return
	}
	for line := range bytes.Lines(data) { // an entry may have several, and lack the last end
		fmt.Fprintf(p.Out, "%s%s%s%s%s\n", stamp, session, begin, bytes.TrimSuffix(line, []byte("\n")), end)
		stamp = strings.Map(blank, stamp)
	}
}

// blank keeps the tab of a time and makes the rest spaces.
func blank(r rune) rune {
	if r == '\t' {
		return r
	}
	return ' '
}

// prefixes are the time and the session before an entry, empty where not asked for.
func (p *logPrinter) prefixes(e msb.LogEntry, begin, end string) (stamp, session string) {
	if p.stamps {
		stamp = e.Timestamp.UTC().Format(milliseconds) + "\t"
	}
	switch {
	case !p.showID && !p.colorBySess:
	case e.SessionID == nil:
		session = "[id:sys] "
	default:
		session = fmt.Sprintf("%s[id:%3d]%s ", begin, *e.SessionID, end)
	}
	return stamp, session
}

// sessionColours are SGR colours of sessions, by their number modulo how many there are.
var sessionColours = [...]int{36, 35, 32, 34, 96, 95, 92, 94}
