package gpu

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// None is the selection of no GPU.
const None = "none"

// Select finds the GPUs that a selection means: indexes of nvidia-smi, or UUIDs
// or their beginnings, with commas between; "" means all of them. An index is
// turned into the UUID, since CUDA may count in another order. A MIG instance
// stands for itself.
func (s *Sample) Select(selection string) (uuids []string, err error) {
	switch selection {
	case None:
		return nil, nil
	case "":
		for _, g := range s.GPUs {
			if g.UUID != "" { // else it is lost, since before llmsup
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
		if !slices.Contains(uuids, uuid) { // CUDA takes a repetition for the end of the list
			uuids = append(uuids, uuid)
		}
	}
	return uuids, nil
}

func (s *Sample) resolve(word string) (uuid string, err error) {
	if word == "" {
		return "", errors.New("the GPU selection has an entry with nothing in it; write an index or a UUID")
	}
	if strings.HasPrefix(word, "MIG-") {
		return word, nil
	}
	index, notNumber := strconv.Atoi(word)
	var found []string
	for _, g := range s.GPUs {
		if g.UUID != "" && (notNumber == nil && g.Index == index || notNumber != nil && strings.HasPrefix(g.UUID, word)) {
			found = append(found, g.UUID)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		if notNumber == nil && slices.ContainsFunc(s.GPUs, func(g GPU) bool { return g.Index == index && g.Lost }) {
			return "", fmt.Errorf("GPU %d can't be reached by the driver: look for NVRM in dmesg", index)
		}
		return "", fmt.Errorf("there is no GPU %s; there are %s", word, s.describeGPUs())
	}
	if notNumber == nil { // one is lost, and the driver counts the others anew
		return "", fmt.Errorf("the index %s has passed from one GPU to another; give the UUID: %s", word, strings.Join(found, " or "))
	}
	return "", fmt.Errorf("%s begins the UUID of %d GPUs; write more of it", word, len(found))
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
		return "none at all"
	}
	return strings.Join(names, ", ")
}

// pick returns the GPUs of some UUIDs, in their order in the sample.
func (s *Sample) pick(uuids []string) []GPU {
	return slices.DeleteFunc(slices.Clone(s.GPUs), func(g GPU) bool { return !slices.Contains(uuids, g.UUID) })
}
