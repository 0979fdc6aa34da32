package microsandbox

import "slices"

// logMerge delivers the entries of several logs in the order of their times, as far as
// they are there.
type logMerge struct {
	sources []LogSource
	logs    []*logReader
	heads   []*LogEntry // the next entry of each log, nil if not known
}

// newLogMerge reads what the wanted sources need; last says that nothing more will come.
func newLogMerge(dir string, sources []LogSource, last bool) *logMerge {
	m := &logMerge{sources: sources, logs: []*logReader{{dir: dir, names: execLogNames}}}
	if slices.Contains(sources, LogSourceSystem) {
		m.logs = append(m.logs, &logReader{dir: dir, names: runtimeLogNames, text: true, last: last}, &logReader{dir: dir, names: kernelLogNames, text: true, last: last})
	}
	m.heads = make([]*LogEntry, len(m.logs))
	return m
}

// resume goes to a place in exec.log and reports whether there is such a place. System
// logs have no places to come back to: what they have counts as seen.
func (m *logMerge) resume(id string, off int64) (bool, error) {
	for _, l := range m.logs[1:] {
		for {
			e, err := l.read()
			if err != nil {
				return false, err
			}
			if e == nil {
				break
			}
		}
	}
	return m.logs[0].resume(id, off)
}

// next returns the next entry that is wanted, nil if there is none (yet).
func (m *logMerge) next() (*LogEntry, error) {
	first := -1
	for i, l := range m.logs {
		for m.heads[i] == nil {
			e, err := l.read()
			if err != nil {
				return nil, err
			}
			if e == nil {
				break
			}
			if slices.Contains(m.sources, e.Source) {
				m.heads[i] = e
			}
		}
		if m.heads[i] != nil && (first < 0 || m.heads[i].Timestamp.Before(m.heads[first].Timestamp)) {
			first = i
		}
	}
	if first < 0 {
		return nil, nil
	}
	e := m.heads[first]
	m.heads[first] = nil
	return e, nil
}

func (m *logMerge) close() {
	for _, l := range m.logs {
		l.close()
	}
}
