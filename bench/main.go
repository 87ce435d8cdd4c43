// Command bench measures Foundry, PostgreSQL and River side by side: one database server, one machine, one run. README.md says what
// each figure means.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"foundry/internal/pgdev"
)

func main() {
	os.Exit(run()) //nolint:forbidigo // as in cmd
}

func run() int {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case pgdev.SuperviseArg:
			return pgdev.SuperviseMain(os.Args[2:])
		case subscribeArg:
			return exitCode(subscribeMain(os.Args[2]))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return exitCode(bench(ctx))
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		return 2
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	return 1
}

// options are what the command line says.
type options struct {
	only    string
	quick   bool
	smoke   bool
	runs    int
	json    string
	profile string
	keep    bool
}

func parseOptions() (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.only, "only", "", "scenarios to run, separated by commas: "+strings.Join(names(), ", "))
	flags.BoolVar(&o.quick, "quick", false, "a quarter of the work: for a look, not for quoting")
	flags.BoolVar(&o.smoke, "smoke", false, "hardly any work: proves that every scenario runs")
	flags.IntVar(&o.runs, "runs", 3, "repetitions of each measurement; the table shows the median")
	flags.StringVar(&o.json, "json", "", "write the figures to this file")
	flags.StringVar(&o.profile, "profile", "", "write CPU profiles of serve and worker, and pg_stat_statements, to this folder")
	flags.BoolVar(&o.keep, "keep", false, "leave logs behind")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return o, flag.ErrHelp
	}
	if o.smoke {
		o.quick, o.runs = true, 1
	}
	if o.runs < 1 {
		return o, errors.New("-runs must be at least 1")
	}
	return o, nil
}

// scenario is one part of a run. It brings up what it needs on the bench's database server.
type scenario struct {
	name string
	run  func(ctx context.Context, b *bencher) error
}

func scenarios() []scenario {
	return []scenario{
		{"postgres", ceiling},
		{"river", measureRiver},
		{"noop", noop},
		{"latency", latency},
		{"fanout", fanout},
		{"logs", logIngest},
		{"sse", sse},
		{"memory", memory},
		{"history", history},
	}
}

func names() []string {
	var all []string
	for _, s := range scenarios() {
		all = append(all, s.name)
	}
	return all
}

func (o options) chosen() ([]scenario, error) {
	if o.only == "" {
		return scenarios(), nil
	}
	wanted := strings.Split(o.only, ",")
	for _, name := range wanted {
		if !slices.Contains(names(), name) {
			return nil, fmt.Errorf("there is no scenario %q; there are %s", name, strings.Join(names(), ", "))
		}
	}
	var chosen []scenario
	for _, s := range scenarios() {
		if slices.Contains(wanted, s.name) {
			chosen = append(chosen, s)
		}
	}
	return chosen, nil
}

// bench is the whole run. A scenario that fails does not keep the others from running.
func bench(ctx context.Context) error {
	o, err := parseOptions()
	if err != nil {
		return err
	}
	chosen, err := o.chosen()
	if err != nil {
		return err
	}
	began := time.Now()
	b, err := newBencher(ctx, o)
	if err != nil {
		return err
	}
	defer b.close(ctx)
	b.report.machine(ctx, b)
	var failures []error
	for _, s := range chosen {
		b.progress("scenario %s", s.name)
		if err := s.run(ctx, b); err != nil {
			failures = append(failures, fmt.Errorf("scenario %s: %w", s.name, err))
			b.progress("scenario %s failed: %v", s.name, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	b.report.Seconds = time.Since(began).Seconds()
	b.report.print(os.Stdout)
	if o.json != "" {
		text, err := json.MarshalIndent(b.report, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.json, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	return errors.Join(failures...)
}
