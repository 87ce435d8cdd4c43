package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build describes this program.
type build struct {
	Version  string `json:"version"` // of the module, or the commit, or dev
	Commit   string `json:"commit"`  // empty when unknown
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func version() build {
	b := build{Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, setting := range info.Settings {
			switch setting.Key {
			case "vcs.revision":
				b.Commit = setting.Value
			case "vcs.modified":
				b.Modified = setting.Value == "true"
			}
		}
		if info.Main.Version != "(devel)" {
			b.Version = info.Main.Version
		}
	}
	b.Version = cmp.Or(b.Version, b.Commit, "dev")
	return b
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which program this is",
		Args:  takes(),
		RunE: func(*cobra.Command, []string) error {
			b := version()
			if a.json {
				return a.printJSON(b)
			}
			fmt.Fprintf(a.Out, "foundry %s (%s, %s)\n", b.Version, b.Go, b.Platform)
			return nil
		},
	}
}
