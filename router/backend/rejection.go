package backend

import (
	"net/http"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/wire"
)

// CheckRejection turns an error of the server that is about the request into a 400, as the
// server should have answered. The request fails there each time: it may only be given to
// another backend.
func (b *Server) CheckRejection(f *Failure, d wire.Dialect) {
	if f.Message == "" || f.Response != nil && f.Response.Status < http.StatusInternalServerError {
		return
	}
	for _, r := range b.rejections {
		if r.Message.MatchString(f.Message) {
			f.reject(r, d)
			return
		}
	}
}

// reject makes a failure that of a rejected request.
func (f *Failure) reject(r models.Rejection, d wire.Dialect) {
	if r.Advice != "" {
		f.Message += "; " + r.Advice
	}
	e := wire.Error{Status: http.StatusBadRequest, Type: wire.TypeInvalid, Code: string(r.Reason), Message: f.Message}
	if r.Reason == Status {
		e.Code = wire.CodeInvalidBody
	}
	f.Reason, f.Phase, f.Detail = r.Reason, Rejected, "rejected the request"
	f.Response = &Response{
		Status: e.Status, Body: d.ErrorBody(e), Header: http.Header{"Content-Type": {"application/json; charset=utf-8"}},
	}
}
