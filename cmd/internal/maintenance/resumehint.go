package maintenance

import "strings"

// ResumeHint describes when drained servers are used again, and which command does that
// earlier. named means that the operator named the servers, instead of all.
func (r Record) ResumeHint(servers []string, named bool) string {
	var ends []string // one for each server: a time, or ""
	same := true
	for _, name := range servers {
		end := ""
		if drain, _ := r.Of(name); !drain.Until.IsZero() {
			end = clock(drain.Until)
		}
		ends = append(ends, end)
		same = same && end == ends[0]
	}
	if len(servers) == 0 && r.All != nil && !r.All.Until.IsZero() {
		ends = []string{clock(r.All.Until)}
	}
	resume, them, are := "llmsup resume", "the servers", "are"
	if named {
		resume += " " + strings.Join(servers, " ")
		if them = strings.Join(servers, " and "); len(servers) == 1 {
			are = "is"
		}
	}
	switch {
	case !same:
		var parts []string
		for i, name := range servers {
			if ends[i] != "" {
				parts = append(parts, name+" is taken into use again at "+ends[i])
			}
		}
		return strings.Join(parts, ", ") + "; " + resume + " takes all of them into use again"
	case len(ends) > 0 && ends[0] != "":
		return them + " " + are + " taken into use again at " + ends[0] + ", or by " + resume
	}
	return resume + " takes " + them + " into use again"
}
