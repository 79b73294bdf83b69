package backend

import (
	"net/http"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/wire"
)

// CheckRejection finds out whether a request would fail at the server each time, so that it
// may only be given to another backend: the engine lacks its path, or the error of the server
// is about the request. That error becomes a 400, as the server should have answered.
func (b *Server) CheckRejection(f *Failure, d wire.Dialect) {
	if b.Engine().Public == nil && f.Reason == Status && (f.HTTPStatus() == http.StatusNotFound || f.HTTPStatus() == http.StatusMethodNotAllowed) {
		f.Reason = Unsupported // which paths the engine has is unknown
		return
	}
	if f.Message == "" || f.Response != nil && f.Response.Status < http.StatusInternalServerError {
		return
	}
	for _, r := range b.Engine().Rejections {
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
