package gpu

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// None selects no GPU.
const None = "none"

// Select returns the UUIDs of the GPUs that a selection names: indexes of nvidia-smi, or
// UUIDs or their prefixes, separated by commas; "" selects all GPUs. UUIDs are used since
// CUDA may number the GPUs in another order. The UUID of a MIG instance is returned as
// it is.
func (s *Sample) Select(selection string) (uuids []string, err error) {
	switch selection {
	case None:
		return nil, nil
	case "":
		for _, g := range s.GPUs {
			if g.UUID != "" { // else it was lost before llmsup started
				uuids = append(uuids, g.UUID)
			}
		}
		return uuids, nil
	}
	for word := range strings.SplitSeq(selection, ",") {
		uuid, err := s.resolve(strings.TrimSpace(word))
		if err != nil {
			return nil, err
		}
		if !slices.Contains(uuids, uuid) { // for CUDA a repetition ends the list
			uuids = append(uuids, uuid)
		}
	}
	return uuids, nil
}

// resolve returns the UUID of the GPU that one word of a selection names.
func (s *Sample) resolve(word string) (uuid string, err error) {
	switch {
	case word == "":
		return "", errors.New("the GPU selection has an empty entry: write an index or a UUID")
	case strings.HasPrefix(word, "MIG-"):
		return word, nil
	}
	index, notNumber := strconv.Atoi(word)
	names := func(g GPU) bool { return strings.HasPrefix(g.UUID, word) }
	if notNumber == nil {
		names = func(g GPU) bool { return g.Index == index }
	}
	var found []string
	lost := false
	for _, g := range s.GPUs {
		switch {
		case g.UUID != "" && names(g):
			found = append(found, g.UUID)
		case notNumber == nil && names(g):
			lost = lost || g.Lost
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0 && lost:
		return "", fmt.Errorf("GPU %d cannot be reached by the driver: look for NVRM in dmesg", index)
	case len(found) == 0:
		return "", fmt.Errorf("there is no GPU %s; found: %s", word, s.describeGPUs())
	case notNumber == nil: // a GPU was lost, and the driver has renumbered the others
		return "", fmt.Errorf("the index %s has moved from one GPU to another: use the UUID, %s", word, strings.Join(found, " or "))
	}
	return "", fmt.Errorf("%s is the start of %d GPUs' UUIDs: write more of it", word, len(found))
}

func (s *Sample) describeGPUs() string {
	var names []string
	for _, g := range s.GPUs {
		if g.UUID == "" {
			names = append(names, fmt.Sprintf("%d (lost)", g.Index))
			continue
		}
		names = append(names, fmt.Sprintf("%d (%s, %s)", g.Index, g.Name, g.UUID))
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ", ")
}

// pick returns the GPUs with some UUIDs, in the sample's order.
func (s *Sample) pick(uuids []string) []GPU {
	return slices.DeleteFunc(slices.Clone(s.GPUs), func(g GPU) bool { return !slices.Contains(uuids, g.UUID) })
}
