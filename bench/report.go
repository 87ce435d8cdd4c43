package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/jackc/pgx/v5"
)

// report is what a run has measured.
type report struct {
	Machine  map[string]string `json:"machine"`
	Settings map[string]string `json:"settings"` // of the server, as it says itself
	Figures  []*figure         `json:"figures"`
	Notes    []string          `json:"notes,omitempty"`
	Seconds  float64           `json:"seconds"`
}

// figure is one thing measured, once a run.
type figure struct {
	Name    string    `json:"name"`
	Unit    string    `json:"unit"`
	Samples []float64 `json:"samples"`
	Median  float64   `json:"median"`
	Min     float64   `json:"min"`
	Max     float64   `json:"max"`
	Target  string    `json:"target,omitempty"`
	Met     *bool     `json:"met,omitempty"`
	limit   target
}

func newReport() *report {
	return &report{Machine: map[string]string{}, Settings: map[string]string{}}
}

// add takes a sample.
func (r *report) add(name, unit string, value float64) {
	i := slices.IndexFunc(r.Figures, func(f *figure) bool { return f.Name == name })
	if i < 0 {
		f := &figure{Name: name, Unit: unit, limit: targets()[name]}
		i, r.Figures = len(r.Figures), append(r.Figures, f)
	}
	r.Figures[i].take(value)
}

func (f *figure) take(value float64) {
	f.Samples = append(f.Samples, value)
	f.Median, f.Min, f.Max = median(f.Samples), slices.Min(f.Samples), slices.Max(f.Samples)
	if f.limit != (target{}) {
		met := f.limit.met(f.Median)
		f.Target, f.Met = f.limit.String(), &met
	}
}

// median is that of a figure, 0 of none.
func (r *report) median(name string) float64 {
	for _, f := range r.Figures {
		if f.Name == name {
			return f.Median
		}
	}
	return 0
}

// note says something that is no figure.
func (r *report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// median of at least one number.
func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// percentile of at least one number: the smallest that at least p of a hundred are not above.
func percentile(of []float64, p float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	i := int(p/100*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// target is what a figure must reach.
type target struct {
	least, most float64
}

func (t target) met(value float64) bool {
	if t.least != 0 {
		return value >= t.least
	}
	return value <= t.most
}

func (t target) String() string {
	if t.least != 0 {
		return fmt.Sprintf("≥ %g", t.least)
	}
	return fmt.Sprintf("≤ %g", t.most)
}

// machine reads what the figures depend on.
func (r *report) machine(ctx context.Context, b *bencher) {
	r.Machine["go"], r.Machine["cpus"] = runtime.Version(), fmt.Sprint(runtime.NumCPU())
	r.Machine["cpu"] = cpuModel()
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		r.Machine["load before"] = strings.TrimSpace(string(load))
	}
	conn, err := pgx.Connect(ctx, b.server.URL("postgres"))
	if err != nil {
		r.note("the settings could not be read: %v", err)
		return
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT name, setting || COALESCE(' ' || unit, '') FROM pg_settings
WHERE name = ANY ('{server_version,fsync,synchronous_commit,full_page_writes,wal_sync_method,shared_buffers,max_connections,max_wal_size,wal_level,autovacuum,shared_preload_libraries,commit_delay,wal_compression}')`)
	if err != nil {
		r.note("the settings could not be read: %v", err)
		return
	}
	var name, value string
	if _, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error { r.Settings[name] = value; return nil }); err != nil {
		r.note("the settings could not be read: %v", err)
	}
}

func cpuModel() string {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// print writes the table.
func (r *report) print(out io.Writer) {
	for _, facts := range []map[string]string{r.Machine, r.Settings} {
		var all []string
		for name, value := range facts {
			all = append(all, name+"="+value)
		}
		slices.Sort(all)
		fmt.Fprintln(out, strings.Join(all, ", "))
	}
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "figure\tmedian\tmin\tmax\truns\tunit\ttarget\t")
	for _, f := range r.Figures {
		verdict := ""
		if f.Met != nil {
			verdict = map[bool]string{true: "met", false: "MISSED"}[*f.Met]
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n",
			f.Name, digits(f.Median), digits(f.Min), digits(f.Max), len(f.Samples), f.Unit, f.Target, verdict)
	}
	_ = table.Flush() // what goes wrong with stdout, nobody can be told
	for _, note := range r.Notes {
		fmt.Fprintln(out, "note:", note)
	}
	fmt.Fprintf(out, "took %.0f s\n", r.Seconds)
}

// digits shows three significant digits, all of them before the point.
func digits(value float64) string {
	switch {
	case value >= 100:
		return fmt.Sprintf("%.0f", value)
	case value >= 10:
		return fmt.Sprintf("%.1f", value)
	}
	return fmt.Sprintf("%.2f", value)
}
