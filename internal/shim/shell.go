package shim

import "fmt"

// ShellArgv returns the commands that execute the script in file with a workflow's shell,
// best first: the shim takes the first whose program exists where the command runs.
// An empty shell is bash.
func ShellArgv(shell, file string) ([][]string, error) {
	sh := []string{"sh", "-e", file}
	switch shell {
	case "", "bash":
		return [][]string{{"bash", "-eo", "pipefail", file}, sh}, nil
	case "sh":
		return [][]string{sh}, nil
	case "python":
		return [][]string{{"python3", file}, {"python", file}}, nil
	case "node":
		return [][]string{{"node", file}}, nil
	}
	return nil, fmt.Errorf("unknown shell %q; it is bash, sh, python or node", shell)
}
