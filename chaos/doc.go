// Package chaos kills things and then looks whether anything was lost. Its tests start a Postgres, control planes and workers as processes of
// the operating system, give them generated workflows (package plan), and break what runs: processes are killed, frozen and drained, the
// database is shut down at once, connections are cut, and processes kill themselves at failpoints around commits and calls. When
// everything has come to rest, package check reads the database and what the commands have noted.
//
//	go test ./chaos                                          a smoke test of half a minute
//	go test ./chaos -run Chaos -form short -v                at least 50 executions and 30 kills; where FOUNDRY_REQUIRE lists chaos it is the default
//	go test ./chaos -run Chaos -long -kills 2000 -timeout 3h -v
//	go test ./chaos -run Chaos -form short -seed 7 -v        the plan of a run whose seed was printed
//
// A seed decides the workflows, what is broken in which order and after which pauses, and what failpoints draw. It does not decide how the
// operating system schedules, so a repeated run takes the same blows at slightly different moments.
//
// A kill counts when it took away a process with SIGKILL (Postgres: SIGQUIT, the immediate shutdown), by this test or by a failpoint. At least half
// of them must have hit while commands ran that the victim had to do with, or the run fails: it would prove nothing.
//
// A run ends by itself, whatever hangs: its storm and its rest have limits, which with what comes before and behind them fit into the time that
// .ci/run gives. One that does not come to rest says which executions have not ended, where they are, and what the processes do.
//
// The disk becomes full for commands of the kind plan.Full, by a limit on the size of files, which needs no rights. With
// -long as root, all sandboxes live on a small tmpfs besides, which a command fills up now and then.
package chaos
