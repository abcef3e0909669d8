package main

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// report is what a run has found. It names no folder and no host.
type report struct {
	Machine  string    `json:"machine"`
	Version  string    `json:"version"` // of sealkeep
	Client   string    `json:"client"`
	Short    bool      `json:"short,omitempty"` // the figures mean nothing
	Settings settings  `json:"settings"`
	Others   []float64 `json:"others"` // for each load over HTTP, the part of all cores that others had, 0 to 1
	Rows     []row     `json:"rows"`
}

// row is one figure. Of MinRatio, MaxRatio and Max one is set at most: the
// target.
type row struct {
	Figure  string    `json:"figure"`
	Unit    string    `json:"unit,omitempty"`
	Value   float64   `json:"value"` // the median
	Samples []float64 `json:"samples"`

	Limit   string    `json:"limit,omitempty"` // what it is measured against in this run
	Against []float64 `json:"against,omitempty"`
	Ratio   float64   `json:"ratio,omitempty"` // of the medians

	MinRatio float64 `json:"min_ratio,omitempty"`
	MaxRatio float64 `json:"max_ratio,omitempty"`
	Max      float64 `json:"max,omitempty"`
	Met      *bool   `json:"met,omitempty"` // nil when there is no target
}

// add completes a row. One without a value, as on systems that do not tell the
// CPU time, is left out.
func (r *report) add(w row) {
	if w.Value = median(w.Samples); w.Value == 0 {
		return
	}
	met := true
	if limit := median(w.Against); limit > 0 {
		w.Ratio = w.Value / limit
		met = (w.MinRatio == 0 || w.Ratio >= w.MinRatio) && (w.MaxRatio == 0 || w.Ratio <= w.MaxRatio)
	}
	if w.Max > 0 {
		met = w.Value <= w.Max
	}
	if w.target() != "" {
		w.Met = &met
	}
	r.Rows = append(r.Rows, w)
}

// addMemory adds what is resident but for the mapped pages of the store.
func (r *report) addMemory(figure string, m memory, most float64) {
	r.add(row{Figure: figure, Unit: "MiB", Samples: []float64{mib(m.resident - m.mapped)}, Max: most})
	r.add(row{Figure: "– anonymous part", Unit: "MiB", Samples: []float64{mib(m.anon)}})
}

func (w row) target() string {
	switch {
	case w.MinRatio > 0:
		return "ratio " + number(w.MinRatio) + " or more"
	case w.MaxRatio > 0:
		return "ratio " + number(w.MaxRatio) + " or less"
	case w.Max > 0:
		return strings.TrimSpace(number(w.Max)+" "+w.Unit) + " or less"
	}
	return ""
}

// table is the report in Markdown.
func (r *report) table() string {
	var b strings.Builder
	if r.Short {
		b.WriteString("A short run, which only shows that everything works: these figures mean nothing.\n\n")
	}
	fmt.Fprintf(&b, "%s; %s; sealkeep %s. Client: %s. Loads of %v, %d times; medians.", r.Machine, runtime.Version(), r.Version, r.Client, r.Settings.Time, r.Settings.Runs)
	fmt.Fprintf(&b, " Others, the kernel's own work included, had %.0f %% of the cores during a load, at most %.0f %%.\n\n",
		100*median(r.Others), 100*slices.Max(r.Others))
	b.WriteString("| figure | sealkeep | measured against | ratio | target | |\n|---|---:|---:|---:|---|---|\n")
	judged, missed := 0, 0
	for _, w := range r.Rows {
		against, ratio, verdict := "", "", ""
		if w.Ratio > 0 {
			against, ratio = fmt.Sprintf("%s (%s)", number(median(w.Against)), w.Limit), number(w.Ratio)
		}
		if w.Met != nil {
			judged++
			if verdict = "met"; !*w.Met {
				missed++
				verdict = "**missed**"
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", w.Figure, strings.TrimSpace(number(w.Value)+" "+w.Unit), against, ratio, w.target(), verdict)
	}
	fmt.Fprintf(&b, "\n%d of %d targets met.\n", judged-missed, judged)
	return b.String()
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// number has three digits that count, or all before the point.
func number(v float64) string {
	switch {
	case v >= 1000:
		return count(int(v + .5))
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// count writes a whole number with commas.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// memory is what is resident of a process, in bytes.
type memory struct {
	resident, anon int64
	mapped         int64 // of the store's file; 0 when the system does not tell
}

// describe tells what it runs on; dir is on the disk.
func describe(dir string) string {
	parts := append([]string{runtime.GOOS + "/" + runtime.GOARCH, fmt.Sprintf("%d cores", runtime.NumCPU())}, hardware(dir)...)
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
}
