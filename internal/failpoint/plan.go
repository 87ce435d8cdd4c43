package failpoint

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"foundry/internal/errs"
)

// Action is what a rule of a plan has happen.
type Action string

// Actions.
const (
	Kill  Action = "kill"  // this process gets SIGKILL
	Delay Action = "delay" // the point waits, no longer than its context
	Fail  Action = "fail"  // before: errs.Unavailable instead of the effect; after: errs.Unknown although it was had
	Twice Action = "twice" // before: the effect is had twice where it may be
)

// Rule is what happens at the points that a pattern names.
type Rule struct {
	Pattern     string // a name, in which * stands for any characters (path.Match)
	Action      Action
	Delay       time.Duration // of Delay
	Probability float64       // above 0, at most 1
}

// Parse reads rules such as
//
//	journal.commit.before=kill:0.002;provider.create.after=delay:500ms:0.1;shim.start.before=twice
//
// which are name=action[:duration][:probability], one after the other; without a probability they always hold.
// The error is a sentence's end: what is wrong with which rule.
func Parse(text string) ([]Rule, error) {
	var rules []Rule
	for part := range strings.SplitSeq(text, ";") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		rule, err := parseRule(part)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", part, err)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func parseRule(text string) (Rule, error) {
	pattern, rest, ok := strings.Cut(text, "=")
	if !ok {
		return Rule{}, fmt.Errorf("there is no action")
	}
	if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
		return Rule{}, fmt.Errorf("the name is no pattern")
	}
	words := strings.Split(rest, ":")
	rule := Rule{Pattern: pattern, Action: Action(words[0]), Probability: 1}
	words = words[1:]
	switch rule.Action {
	case Kill, Fail, Twice:
	case Delay:
		if len(words) == 0 {
			return Rule{}, fmt.Errorf("a delay needs a duration")
		}
		d, err := time.ParseDuration(words[0])
		if err != nil || d <= 0 {
			return Rule{}, fmt.Errorf("%q is no duration above zero", words[0])
		}
		rule.Delay, words = d, words[1:]
	default:
		return Rule{}, fmt.Errorf("%q is none of kill, delay, fail and twice", string(rule.Action))
	}
	if len(words) > 1 {
		return Rule{}, fmt.Errorf("there is too much behind the action")
	}
	if len(words) == 1 {
		p, err := strconv.ParseFloat(words[0], 64)
		if err != nil || !(p > 0 && p <= 1) { // NaN is neither
			return Rule{}, fmt.Errorf("%q is no probability above 0 and up to 1", words[0])
		}
		rule.Probability = p
	}
	return rule, nil
}

// Plan is a hook made of rules. Of the rules for one point each is drawn for, in their order, until one of them decides the answer; delays
// add up. Make it with NewPlan; safe for concurrent use.
type Plan struct {
	rules []Rule
	fired func(name string, action Action)
	kill  func()

	mu     sync.Mutex
	random *rand.Rand
}

// NewPlan returns a plan that draws from a seed. fired, unless nil, is told of each rule that holds, before its effect.
func NewPlan(rules []Rule, seed uint64, fired func(name string, action Action)) *Plan {
	if fired == nil {
		fired = func(string, Action) {}
	}
	return &Plan{rules: rules, fired: fired, kill: killSelf, random: rand.New(rand.NewPCG(seed, 0))} //nolint:gosec // a test wants it repeatable
}

// Hook is the plan as a hook.
func (p *Plan) Hook(ctx context.Context, name string) Answer {
	for i := range p.rules {
		rule := &p.rules[i]
		if matched, err := path.Match(rule.Pattern, name); err != nil || !matched || !p.draw(rule.Probability) {
			continue
		}
		p.fired(name, rule.Action)
		switch rule.Action {
		case Kill:
			p.kill()
		case Delay:
			wait(ctx, rule.Delay)
		case Twice:
			return Answer{Twice: true}
		case Fail:
			return Answer{Err: failure(name)}
		}
	}
	return Answer{}
}

func (p *Plan) draw(probability float64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.random.Float64() < probability
}

func failure(name string) error {
	if strings.HasSuffix(name, After) {
		return errs.E(errs.Unknown, "The answer was lost at the failpoint %s.", name)
	}
	return errs.E(errs.Unavailable, "The failpoint %s refused the call.", name)
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// killSelf does not return.
func killSelf() {
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGKILL); err != nil {
		panic(fmt.Errorf("a failpoint could not kill its process: %w", err))
	}
	select {}
}
