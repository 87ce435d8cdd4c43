package pgdev

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// nobody is the uid and gid that PostgreSQL runs as under root when no user postgres exists.
const nobody = 65534

// account is who PostgreSQL runs as. The zero account is the user of this process.
type account struct {
	UID, GID uint32
}

// serverAccount returns the account for PostgreSQL, which refuses to run as root.
func serverAccount() account {
	if os.Geteuid() != 0 {
		return account{}
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return account{UID: nobody, GID: nobody}
	}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
	if errUID != nil || errGID != nil {
		return account{UID: nobody, GID: nobody}
	}
	return account{UID: uint32(uid), GID: uint32(gid)}
}

// command makes cmd run as the account, in a directory and with an environment that
// every account can have.
func (a account) command(cmd *exec.Cmd) *exec.Cmd {
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if a != (account{}) {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.UID, Gid: a.GID}
	}
	return cmd
}

// give makes the account the owner of paths that this process has made.
func (a account) give(paths ...string) error {
	if a == (account{}) {
		return nil
	}
	for _, path := range paths {
		if err := os.Chown(path, int(a.UID), int(a.GID)); err != nil {
			return fmt.Errorf("giving %s to uid %d: %w", path, a.UID, err)
		}
	}
	return nil
}
