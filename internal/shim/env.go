package shim

import "strings"

// envPrefix stands before the name of each variable of a start call that is meant for the command.
// Between the call and the command are programs that are not isolated from this machine
// (the dynamic linker, the shim, bubblewrap); a workflow's LD_PRELOAD must not reach them.
const envPrefix = "FOUNDRY_ENV_"

// EscapeEnv returns the environment of a start call whose command is to have env (NAME=value), on
// top of the variables of the sandbox itself. An entry without a name is dropped.
func EscapeEnv(env []string) []string {
	escaped := make([]string, 0, len(env))
	for _, entry := range env {
		if strings.Index(entry, "=") > 0 {
			escaped = append(escaped, envPrefix+entry)
		}
	}
	return escaped
}

// splitEnv undoes EscapeEnv: own is what the call's environment was without it, and command
// what the command is to have.
func splitEnv(environ []string) (own, command []string) {
	var meant []string
	for _, entry := range environ {
		if name, ok := strings.CutPrefix(entry, envPrefix); ok {
			meant = append(meant, name)
		} else {
			own = append(own, entry)
		}
	}
	return own, append(append(command, own...), meant...)
}
