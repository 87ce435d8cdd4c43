package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// tick is the unit of the CPU times in /proc: USER_HZ is 100 on Linux wherever Go runs.
const tick = 10 * time.Millisecond

// cpuOf is the CPU time of a process, and that of its children that have ended.
func cpuOf(pid int) (own, ended time.Duration) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 15 {
		return 0, 0
	}
	at := func(i int) time.Duration {
		n, _ := strconv.ParseInt(fields[i], 10, 64) // the kernel writes numbers
		return time.Duration(n) * tick
	}
	return at(11) + at(12), at(13) + at(14)
}

func selfPID() int { return os.Getpid() }

// residentOf is the resident memory of a process in bytes.
func residentOf(pid int) int64 {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64) // the kernel writes numbers
	return pages * int64(os.Getpagesize())
}

// postgresCPU is what the server has spent: itself, its children, and those of them that have ended.
func (b *bencher) postgresCPU() time.Duration {
	pid, err := b.postmaster()
	if err != nil {
		return 0
	}
	own, ended := cpuOf(pid)
	total := own + ended
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return total
	}
	for field := range strings.FieldsSeq(string(text)) {
		if child, err := strconv.Atoi(field); err == nil {
			spent, _ := cpuOf(child)
			total += spent
		}
	}
	return total
}

// costs are what a database has cost so far.
type costs struct {
	tables  int64 // bytes of tables, their indexes and TOAST
	wal     int64 // bytes, of the whole server
	commits int64
	at      time.Time
	server  time.Duration // CPU of PostgreSQL
}

// costs reads what the pool's database has cost. What a backend has counted arrives up to ten seconds late, unless it has ended.
func (b *bencher) costs(ctx context.Context, pool *pgxpool.Pool) (costs, error) {
	c := costs{at: time.Now(), server: b.postgresCPU()}
	const sql = `SELECT (SELECT COALESCE(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace),
    pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database())`
	err := pool.QueryRow(ctx, sql).Scan(&c.tables, &c.wal, &c.commits)
	return c, err
}
