package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"foundry/internal/errs"
	"foundry/internal/postgres/dbsqlc"
	"foundry/internal/workflow"
)

// GroupConflict is the code of an execution that is refused because its concurrency group has no room, and it is not to wait.
const GroupConflict errs.Code = "group_conflict"

// GroupHeldByParent is the code of an execution that is refused because one that waits for its end has a slot in its group: it might wait for ever.
const GroupHeldByParent errs.Code = "group_held_by_parent"

// holdersNamed is how many holders of a group a refusal names.
const holdersNamed = 3

// GroupID is the id of an organization's concurrency group. It follows from the name, so that groups can be locked in the order of their ids
// before they exist.
func GroupID(organization uuid.UUID, name string) uuid.UUID {
	return uuid.NewSHA1(organization, []byte(name))
}

// lockGroups locks, if any newcomer enters a group, first the workflows and then the groups of all that come and leave, in the order of
// their ids. It reads no answer, so it costs no round trip on a postgres.Pipeline.
func lockGroups(ctx context.Context, q *dbsqlc.Queries, leaving []uuid.UUID, newcomers []*newcomer) error {
	enter := dbsqlc.GroupEnterParams{Ids: []uuid.UUID{}, Leaving: some(leaving)}
	workflows := make([]uuid.UUID, 0, len(newcomers))
	for _, n := range newcomers {
		workflows = append(workflows, n.WorkflowID)
		if n.group == nil || slices.Contains(enter.Ids, *n.GroupID) {
			continue
		}
		enter.Ids, enter.OrganizationIds = append(enter.Ids, *n.GroupID), append(enter.OrganizationIds, n.OrganizationID)
		enter.Names, enter.Limits = append(enter.Names, n.group.Name), append(enter.Limits, int32(n.group.Limit))
	}
	if len(enter.Ids) == 0 {
		return nil
	}
	if err := q.WorkflowLockMany(ctx, workflows); err != nil {
		return err
	}
	return q.GroupEnter(ctx, enter)
}

// some returns ids that are not nil, which would be NULL and match nothing, nor anything else.
func some(ids []uuid.UUID) []uuid.UUID {
	return append([]uuid.UUID{}, ids...)
}

// mayEnter returns GroupHeldByParent for one whose parent, or one above it, is in the group, whatever the limit, and GroupConflict for one
// that is not to wait and would have to. Nobody is overtaken: who waits counts too.
func (n *newcomer) mayEnter(ctx context.Context, q *dbsqlc.Queries) error {
	if n.ParentExecutionID != nil {
		above, err := q.GroupHeldByParent(ctx, *n.GroupID, *n.ParentExecutionID)
		if err == nil {
			return errs.E(GroupHeldByParent, "The concurrency group %q is held by %s #%d (%s), which waits for this execution; it would never have room.",
				n.group.Name, above.WorkflowSlug, above.Number, above.ID)
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
	}
	if n.group.OnConflict != workflow.ConflictReject {
		return nil
	}
	state, err := q.GroupState(ctx, *n.GroupID)
	if err != nil || int(state.Held+state.Waiting) < n.group.Limit {
		return err
	}
	holders, err := q.GroupHolders(ctx, *n.GroupID, holdersNamed)
	if err != nil {
		return err
	}
	return errs.E(GroupConflict, "The concurrency group %q has room for %d, and %s.", n.group.Name, n.group.Limit, takenBy(holders, int(state.Held), int(state.Waiting)))
}

// takenBy says who is in a group.
func takenBy(holders []dbsqlc.GroupHoldersRow, held, waiting int) string {
	names := make([]string, 0, len(holders)+1)
	for _, h := range holders {
		names = append(names, fmt.Sprintf("%s #%d (%s)", h.WorkflowSlug, h.Number, h.ID))
	}
	if more := held - len(holders); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	sentence := "is held by " + strings.Join(names, ", ")
	if waiting > 0 {
		sentence += fmt.Sprintf("; %d waiting", waiting)
	}
	return strings.TrimPrefix(sentence, "is held by ; ")
}

// enter gives the group the newcomer's limit, and admits who then has room.
func (n *newcomer) enter(ctx context.Context, q *dbsqlc.Queries) error {
	if err := q.GroupSetLimit(ctx, int32(n.group.Limit), *n.GroupID); err != nil {
		return err
	}
	return q.GroupAdmit(ctx, []uuid.UUID{}, []uuid.UUID{*n.GroupID})
}

// supersede cancels what an execution that has just been queued is to replace. What fails here CancelSuperseded does again.
func (s *Store) supersede(ctx context.Context, n *newcomer) {
	if n.Cancels {
		_, _ = s.cancelSuperseded(ctx, &n.ID)
	}
}

// CancelSuperseded asks for the cancel of executions, at most 100 a call, that have a slot in a group for which a newer one waits that is to replace
// them (cancel-running), unless somebody has asked for it before: a second request would force. It returns how many. Any number of processes
// may call it at once.
func (s *Store) CancelSuperseded(ctx context.Context) (int, error) {
	return s.cancelSuperseded(ctx, nil)
}

func (s *Store) cancelSuperseded(ctx context.Context, waiter *uuid.UUID) (int, error) {
	rows, err := s.q.GroupListSuperseded(ctx, waiter)
	if err != nil {
		return 0, fmt.Errorf("looking for what is to be replaced: %w", err)
	}
	ids := make([]uuid.UUID, 0, len(rows))
	by := make(map[uuid.UUID]dbsqlc.GroupListSupersededRow, len(rows))
	for _, row := range rows {
		ids, by[row.ID] = append(ids, row.ID), row
	}
	return each(ctx, ids, func(ctx context.Context, id uuid.UUID) (int, error) {
		row := by[id]
		return s.cancelOnce(ctx, row.OrganizationID, id, map[string]any{
			"by": fmt.Sprintf("concurrency group %q", row.Name), "for": row.Number,
		})
	})
}

// leave takes a queued execution, which has ended in this transaction, out of its group, under the group's lock.
func leave(ctx context.Context, q *dbsqlc.Queries, id uuid.UUID) error {
	return q.GroupAdmit(ctx, []uuid.UUID{id}, []uuid.UUID{})
}

// lockGroupOf locks the group that an execution is in, if it is in one.
func lockGroupOf(ctx context.Context, q *dbsqlc.Queries, id uuid.UUID) error {
	return q.GroupLock(ctx, []uuid.UUID{id}, []uuid.UUID{})
}

// StuckGroups returns concurrency groups, at most 100, that have room at this instant and somebody who waits. There are none unless Foundry is
// wrong. LeftBehind are executions, at most 100, that have ended and have a slot or wait yet: neighbouring releases that know no groups leave some.
func (s *Store) StuckGroups(ctx context.Context) (groups, leftBehind []uuid.UUID, err error) {
	if groups, err = s.q.GroupListStuck(ctx); err == nil {
		leftBehind, err = s.q.GroupListLeft(ctx)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("looking for stuck groups: %w", err)
	}
	return groups, leftBehind, nil
}

// FreeGroups takes executions that have ended out of their groups, and admits whom these groups and the ones that are named have room for.
func (s *Store) FreeGroups(ctx context.Context, groups, leftBehind []uuid.UUID) error {
	err := s.change(ctx, wake{work: true}, func(q *dbsqlc.Queries) error {
		if err := q.GroupLock(ctx, some(leftBehind), some(groups)); err != nil {
			return err
		}
		if err := q.QueueDrop(ctx, some(leftBehind)); err != nil {
			return err
		}
		return q.GroupAdmit(ctx, some(leftBehind), some(groups))
	})
	if err != nil {
		return fmt.Errorf("freeing stuck groups: %w", err)
	}
	return nil
}

// SweepGroups deletes the rows of groups that nobody is in, and returns how many it looked at. Any number of processes may call it at once.
func (s *Store) SweepGroups(ctx context.Context) (int, error) {
	const batch = 1000
	for all := 0; ; {
		var unused []uuid.UUID
		err := s.change(ctx, wake{}, func(q *dbsqlc.Queries) (err error) {
			if unused, err = q.GroupLockUnused(ctx); err != nil || len(unused) == 0 {
				return err
			}
			return q.GroupDelete(ctx, unused)
		})
		all += len(unused)
		if err != nil {
			return all, fmt.Errorf("sweeping groups: %w", err)
		}
		if len(unused) < batch {
			return all, nil
		}
	}
}
