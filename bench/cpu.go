package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sample is CPU time used so far.
type sample struct {
	envoy, beside time.Duration // the subject's
	known         time.Duration // the subject's, the provider's and the bench's own
	machine, all  time.Duration // of all processes, and of all there is
}

func (b *bench) sample(s *subject) sample {
	processes := readProcesses()
	var v sample
	for _, p := range processes.trees(s.roots...) {
		if p.name == "envoy" {
			v.envoy += p.cpu
		} else {
			v.beside += p.cpu
		}
	}
	v.known = v.envoy + v.beside
	for _, p := range processes.trees(b.provider.Process.Pid) {
		v.known += p.cpu
	}
	v.known += processes[os.Getpid()].cpu
	v.machine, v.all = machine()
	return v
}

// memory is the most that each subject's processes have had resident, in MiB, by the subject's
// name.
func (b *bench) memory() map[string]float64 {
	most := map[string]float64{}
	processes := readProcesses()
	for _, s := range b.subjects {
		for _, p := range processes.trees(s.roots...) {
			most[s.name] += peak(p.pid)
		}
	}
	return most
}

func peak(pid int) float64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

type process struct {
	pid, parent int
	name        string
	cpu         time.Duration
}

type processes map[int]process

const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on

func readProcesses() processes {
	all := processes{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		open, end := strings.IndexByte(string(data), '('), strings.LastIndexByte(string(data), ')')
		fields := strings.Fields(string(data[end+1:]))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		parent, _ := strconv.Atoi(fields[1])
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		all[pid] = process{pid, parent, string(data[open+1 : end]), time.Duration(user+system) * tick}
	}
	return all
}

// trees are these processes and all that they have started.
func (all processes) trees(roots ...int) []process {
	var found []process
	for pid := range all {
		for p := pid; p != 0; p = all[p].parent {
			if slices.Contains(roots, p) {
				found = append(found, all[pid])
				break
			}
		}
	}
	return found
}

// machine is the time that all CPUs together were busy, and all the time there was.
func machine() (busy, all time.Duration) {
	data, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(data), "\n")
	for i, f := range strings.Fields(line)[1:] {
		n, _ := strconv.Atoi(f)
		t := time.Duration(n) * tick
		switch i {
		case 3, 4: // idle, iowait
			all += t
		case 0, 1, 2, 5, 6, 7: // those after it are in it already
			all, busy = all+t, busy+t
		}
	}
	return busy, all
}

// awaitQuiet waits until the machine does little, for as long as there is patience, and returns
// what is left of it.
func awaitQuiet(ctx context.Context, patience time.Duration) time.Duration {
	const look, little = 500 * time.Millisecond, 0.15
	for ctx.Err() == nil && patience > 0 {
		busy, all := machine()
		time.Sleep(look)
		patience -= look
		busyNow, allNow := machine()
		if float64(busyNow-busy) < little*float64(allNow-all) {
			break
		}
	}
	return patience
}
