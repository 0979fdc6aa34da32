package registrytest

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"
)

// Cut drops the connection after n bytes of the answer's body.
func Cut(n int) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		a := answer(r, next)
		copyHeader(w, a)
		w.WriteHeader(a.Code)
		_, _ = w.Write(a.Body.Bytes()[:min(n, a.Body.Len())])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// Stall delivers n bytes of the body and then nothing until the client goes away. What is
// no longer than that is delivered whole.
func Stall(n int) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		a := answer(r, next)
		copyHeader(w, a)
		w.WriteHeader(a.Code)
		_, _ = w.Write(a.Body.Bytes()[:min(n, a.Body.Len())])
		_ = http.NewResponseController(w).Flush()
		if n < a.Body.Len() {
			<-r.Context().Done()
		}
	}
}

// Slow delivers the body in pieces of n bytes with pauses between them.
func Slow(n int, pause time.Duration) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		a := answer(r, next)
		copyHeader(w, a)
		w.WriteHeader(a.Code)
		for body := a.Body.Bytes(); len(body) > 0; body = body[min(n, len(body)):] {
			if _, err := w.Write(body[:min(n, len(body))]); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(pause):
			}
		}
	}
}

// Status answers with a code and a header of the form key, value.
func Status(code int, header ...string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"errors":[{"code":"TEST","message":"fault %d"}]}`, code)
	}
}

// Damage flips a bit of the body's byte at.
func Damage(at int) func(http.ResponseWriter, *http.Request, http.Handler) {
	return Change(func(body []byte) []byte {
		body = bytes.Clone(body)
		if at < len(body) {
			body[at] ^= 0x40
		}
		return body
	})
}

// Change replaces the body, with its true length.
func Change(change func(body []byte) []byte) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		a := answer(r, next)
		body := change(a.Body.Bytes())
		copyHeader(w, a)
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.WriteHeader(a.Code)
		_, _ = w.Write(body)
	}
}

// Header sets a header of the form key, value on right answers; an empty value removes
// it.
func Header(header ...string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		a := answer(r, next)
		copyHeader(w, a)
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
			if header[i+1] == "" {
				w.Header()[header[i]] = nil
			}
		}
		w.WriteHeader(a.Code)
		_, _ = w.Write(a.Body.Bytes())
	}
}

// NoRange answers as if no part had been asked for.
func NoRange(w http.ResponseWriter, r *http.Request, next http.Handler) {
	r.Header.Del("Range")
	next.ServeHTTP(w, r)
}

// Redirect sends the client elsewhere.
func Redirect(to func(r *http.Request) string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, to(r), http.StatusTemporaryRedirect)
	}
}

// Basic asks for a user name and password.
func Basic(user, password string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		u, p, ok := r.BasicAuth()
		if !ok || u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// answer is what the registry answers.
func answer(r *http.Request, next http.Handler) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	next.ServeHTTP(w, r)
	return w
}

func copyHeader(w http.ResponseWriter, a *httptest.ResponseRecorder) {
	for key, values := range a.Header() {
		w.Header()[key] = values
	}
	if w.Header().Get("Content-Length") == "" {
		w.Header().Set("Content-Length", fmt.Sprint(a.Body.Len()))
	}
}
