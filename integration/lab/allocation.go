package lab

import (
	"errors"
	"fmt"
)

// Allocation is a job's instance on one node, as Nomad's API describes it.
type Allocation struct {
	ID            string
	NodeID        string
	NodeName      string
	TaskGroup     string
	JobVersion    int
	DesiredStatus string // run or stop
	ClientStatus  string // pending, running, complete, failed or lost
	TaskStates    map[string]TaskState
}

// TaskState is the state of an allocation's task.
type TaskState struct {
	State    string // pending, running or dead
	Failed   bool
	Restarts int
	Events   []TaskEvent // the latest ten, in order
}

// TaskEvent is one event in a task's life.
type TaskEvent struct {
	Type           string // such as Terminated
	DisplayMessage string
	ExitCode       int
	Signal         int
}

// Allocations returns all allocations of a job, also those that have ended.
func (n *NomadCluster) Allocations(job string) ([]Allocation, error) {
	var allocs []Allocation
	err := n.Get("/v1/job/"+job+"/allocations?all=true", &allocs)
	return allocs, err
}

// Allocation returns the only allocation of a job's group that Nomad wants to run on a host.
func (n *NomadCluster) Allocation(job, group string, h *Host) (Allocation, error) {
	allocs, err := n.Allocations(job)
	if err != nil {
		return Allocation{}, err
	}
	var found []Allocation
	for _, a := range allocs {
		if a.TaskGroup == group && a.NodeName == h.Name && a.DesiredStatus == "run" {
			found = append(found, a)
		}
	}
	if len(found) != 1 {
		return Allocation{}, fmt.Errorf("nomad wants %d allocations of group %s of %s to run on %s", len(found), group, job, h.Name)
	}
	return found[0], nil
}

// Running returns an error unless all of the allocation's tasks run.
func (a Allocation) Running() error {
	if a.ClientStatus != "running" {
		return fmt.Errorf("the allocation on %s is %s", a.NodeName, a.ClientStatus)
	}
	if len(a.TaskStates) == 0 {
		return errors.New("no task has a state yet")
	}
	for name, task := range a.TaskStates {
		if task.State != "running" {
			return fmt.Errorf("task %s on %s is %s", name, a.NodeName, task.State)
		}
	}
	return nil
}
