package expr

import (
	"fmt"
	"strings"
)

// evaluator walks a tree once. work counts what it has read and written.
type evaluator struct {
	env  Env
	work int
}

func failed(pos int, format string, args ...any) error {
	return &Error{Code: Failed, Pos: pos, Msg: fmt.Sprintf(format, args...)}
}

// spend accounts for n bytes of work.
func (ev *evaluator) spend(pos, n int) error {
	if ev.work += n; ev.work > maxWork {
		return failed(pos, "The expression does more work than allowed: it would go through more than %d MiB.", maxWork>>20)
	}
	return nil
}

// made accounts for a value of the given size, to which cost bytes have been added.
func (ev *evaluator) made(pos, size, cost int) error {
	if size > MaxSize {
		return failed(pos, "The value would be larger than %d MiB.", MaxSize>>20)
	}
	return ev.spend(pos, cost)
}

func (ev *evaluator) eval(n node) (Value, error) {
	if err := ev.spend(n.at(), 1); err != nil {
		return nil, err
	}
	switch n := n.(type) {
	case *literal:
		return n.value, nil
	case *contextRef:
		return ev.env.Contexts[strings.ToLower(n.name)], nil
	case *index:
		return ev.index(n)
	case *filter:
		return ev.filter(n)
	case *not:
		v, err := ev.eval(n.of)
		return !Truthy(v), err
	case *binary:
		return ev.binary(n)
	case *call:
		return ev.call(n)
	}
	return nil, failed(n.at(), "The expression has an unknown part.")
}

func (ev *evaluator) index(n *index) (Value, error) {
	of, err := ev.eval(n.of)
	if err != nil {
		return nil, err
	}
	key, err := ev.eval(n.key)
	if err != nil {
		return nil, err
	}
	list, ok := of.(filtered)
	if !ok {
		if err := ev.search(n.pos, of); err != nil {
			return nil, err
		}
		v, _ := access(of, key)
		return v, nil
	}
	found := filtered{}
	for _, item := range list {
		if err := ev.search(n.pos, item); err != nil {
			return nil, err
		}
		if v, ok := access(item, key); ok {
			found = append(found, v)
		}
	}
	return found, nil
}

// search pays for a look-up, which may have to look at all keys of an object.
func (ev *evaluator) search(pos int, in Value) error {
	if object, ok := in.(map[string]any); ok {
		return ev.spend(pos, 1+len(object))
	}
	return ev.spend(pos, 1)
}

func (ev *evaluator) filter(n *filter) (Value, error) {
	of, err := ev.eval(n.of)
	if err != nil {
		return nil, err
	}
	list, ok := of.(filtered)
	if !ok {
		list = filtered{of}
	}
	found := filtered{}
	for _, item := range list {
		more := items(item)
		if err := ev.made(n.pos, len(found)+len(more), 1+len(more)); err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

func (ev *evaluator) binary(n *binary) (Value, error) {
	left, err := ev.eval(n.left)
	if err != nil {
		return nil, err
	}
	if n.op == "&&" && !Truthy(left) || n.op == "||" && Truthy(left) {
		return left, nil
	}
	right, err := ev.eval(n.right)
	if err != nil {
		return nil, err
	}
	if n.op == "&&" || n.op == "||" {
		return right, nil
	}
	if err := ev.spend(n.pos, size(left)+size(right)); err != nil {
		return nil, err
	}
	switch n.op {
	case "==":
		return equal(left, right), nil
	case "!=":
		return !equal(left, right), nil
	case "<":
		return less(left, right), nil
	case "<=":
		return less(left, right) || equal(left, right), nil
	case ">":
		return less(right, left), nil
	}
	return less(right, left) || equal(left, right), nil
}

// size is the cost of comparing a value: only strings are read through.
func size(v Value) int {
	if s, ok := v.(string); ok {
		return len(s)
	}
	return 1
}

func (ev *evaluator) call(n *call) (Value, error) {
	if n.fn.status {
		if ev.env.Status == nil {
			return nil, failed(n.pos, "%s() can be asked in `if` only.", n.fn.name)
		}
		return n.fn.ask(*ev.env.Status), nil
	}
	args := make([]Value, len(n.args))
	for i, arg := range n.args {
		v, err := ev.eval(arg)
		if err != nil {
			return nil, err
		}
		args[i] = plain(v)
	}
	return n.fn.run(ev, n.pos, args)
}
