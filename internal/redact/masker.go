package redact

// stars stands for one maximal run of masked bytes.
const stars = "***"

// masker turns raw bytes and the ranges to mask into stored bytes. Ranges come in
// ascending order of their start; all offsets are into buf.
type masker struct {
	buf    []byte
	out    []byte
	done   int // bytes before it are in out or masked
	masked int // end of the last masked run, whose stars are out; -1 for none
	runs   int // how many stars are out
}

// mark masks buf[from:to]. The stars of a run are out as soon as its first byte is
// known to be masked, so that masked alone says whether they are.
func (m *masker) mark(from, to int) {
	if from >= to {
		return
	}
	if from > m.masked {
		m.plain(from)
		m.out = append(m.out, stars...)
		m.runs++
	}
	m.masked = max(m.masked, to)
}

// plain stores the bytes before to that are not masked.
func (m *masker) plain(to int) {
	if from := max(m.done, m.masked); from < to {
		m.out = append(m.out, m.buf[from:to]...)
	}
	m.done = max(m.done, to)
}

// scan marks every match that begins in buf[from:to]. It returns to, or the first
// offset whose match is not decided because more bytes may follow buf; never
// the latter if final.
func (m *masker) scan(p *Patterns, from, to int, final bool) int {
	for i := p.next(m.buf, from, to); i < to; i = p.next(m.buf, i+1, to) {
		n, partial := p.match(m.buf[i:])
		m.mark(i, i+n)
		if partial && !final {
			return i
		}
	}
	return to
}

// String returns s with everything masked that p matches, and whether that
// changed it. It is for whole strings: outputs and the texts of errors. A string
// cut short before may end in a part of a value that no longer matches, so cut
// afterwards. Lines that begin with ::add-mask:: have no meaning here.
func String(p *Patterns, s string) (redacted string, changed bool) {
	if p == nil || s == "" {
		return s, false
	}
	m := masker{buf: []byte(s), masked: -1}
	m.scan(p, 0, len(s), true)
	if m.masked < 0 {
		return s, false
	}
	m.plain(len(s))
	return string(m.out), true
}
