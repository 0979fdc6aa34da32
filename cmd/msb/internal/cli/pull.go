package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

// pullProgress turns the events of a pull into a progress line.
type pullProgress struct {
	line   *ui.Progress
	name   string
	total  int64
	layers []int64 // bytes that have arrived
}

func newPullProgress(line *ui.Progress) *pullProgress { return &pullProgress{line: line} }

// note takes in an event without drawing.
func (p *pullProgress) note(e msb.PullEvent) {
	switch e.Kind {
	case msb.PullResolving:
		p.name = e.Reference
	case msb.PullResolved:
		p.total, p.layers = e.Total, make([]int64, e.LayerCount)
	case msb.PullDownloadProgress, msb.PullMaterializeProgress:
		if e.LayerIndex < len(p.layers) {
			p.layers[e.LayerIndex] = max(p.layers[e.LayerIndex], e.Bytes)
		}
	}
}

func (p *pullProgress) event(e msb.PullEvent) {
	p.note(e)
	switch e.Kind {
	case msb.PullResolving:
		p.line.Draw("Resolving", p.name, 0, 0)
		return
	case msb.PullMerging, msb.PullWriting:
		p.line.Draw("Preparing", p.name, 0, 0)
		return
	case msb.PullComplete:
		return
	}
	var done int64
	for _, n := range p.layers {
		done += n
	}
	p.line.Draw("Pulling", p.name, done, p.total)
}

// showPull shows the progress of fetching a sandbox's image, which ends before anything
// else is printed.
func (a *app) showPull() msb.SandboxOption {
	a.line = ui.NewProgress(a.Err)
	p := newPullProgress(a.line)
	shown := false
	return msb.WithPullProgress(func(e msb.PullEvent) {
		switch {
		case e.Kind == msb.PullComplete:
			p.line.Clear()
		case e.Kind == msb.PullMaterializeStarted || e.Kind == msb.PullMerging || shown:
			shown = true // what is in the cache is not worth a line
			p.event(e)
		default:
			p.note(e)
		}
	})
}

func (a *app) pullCmd() *cobra.Command {
	var force, quiet, insecure bool
	var caCerts, materialize string
	cmd := &cobra.Command{
		Use: "pull <REFERENCE>", Short: "Download an image from a registry",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("materialize", materialize, "layered", "flat", "all"); err != nil {
				return err
			}
			o := msb.PullOptions{Force: force, Insecure: insecure, Materialize: msb.Materialize(materialize)}
			if caCerts != "" {
				o.CACertsFiles = []string{caCerts}
			}
			return a.pullImage(cmd.Context(), args[0], o, quiet)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&force, "force", "f", false, "download and prepare everything anew")
	f.BoolVarP(&quiet, "quiet", "q", false, "print no progress")
	f.BoolVar(&insecure, "insecure", false, "speak plain HTTP with the registry")
	f.StringVar(&caCerts, "ca-certs", "", "file of PEM certificates of authorities to trust besides the system's")
	f.StringVar(&materialize, "materialize", "", "root to prepare: layered, flat or all (default: that of sandbox_defaults)")
	return cmd
}

// pullImage downloads an image and says so, unless quiet.
func (a *app) pullImage(ctx context.Context, ref string, o msb.PullOptions, quiet bool) error {
	begin := time.Now()
	line := &ui.Progress{}
	if !quiet {
		line = ui.NewProgress(a.Err)
		o.Progress = newPullProgress(line).event
	}
	i, pulled, err := msb.Image.Pull(ctx, ref, o)
	line.Clear()
	switch {
	case err != nil && !quiet:
		ui.Failed(a.Err, "Pulling", ref)
		return err
	case err != nil || quiet:
		return err
	case !pulled:
		ui.Done(a.Err, "Pulled", i.Reference()+" (already cached)", time.Since(begin))
	default:
		ui.Done(a.Err, "Pulled", i.Reference(), time.Since(begin))
	}
	return nil
}
