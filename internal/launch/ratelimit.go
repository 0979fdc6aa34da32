package launch

// RateLimiter bounds a sandbox's traffic; nil directions do not.
type RateLimiter struct {
	Egress  *Limiter `json:"egress,omitempty"` // what the guest sends
	Ingress *Limiter `json:"ingress,omitempty"`
}

// Limiter bounds one direction; nil buckets do not.
type Limiter struct {
	Bandwidth *TokenBucket `json:"bandwidth,omitempty"` // bytes of frames
	Ops       *TokenBucket `json:"ops,omitempty"`       // frames
}

// TokenBucket is Size tokens in every RefillTimeMS, after OneTimeBurst once.
type TokenBucket struct {
	Size         uint64 `json:"size"`
	RefillTimeMS uint64 `json:"refill_time_ms"`
	OneTimeBurst uint64 `json:"one_time_burst"`
}

const maxRefillMS = 24 * 3600 * 1000

// Validate reports the first value out of range, wrapping [ErrConfig].
func (r *RateLimiter) Validate() error {
	if r.Egress == nil && r.Ingress == nil {
		return configf("rate_limiter bounds neither egress nor ingress")
	}
	for name, l := range map[string]*Limiter{"egress": r.Egress, "ingress": r.Ingress} {
		if l == nil {
			continue
		}
		if l.Bandwidth == nil && l.Ops == nil {
			return configf("rate_limiter.%s bounds neither bandwidth nor ops", name)
		}
		for _, b := range [...]*TokenBucket{l.Bandwidth, l.Ops} {
			if b != nil && (b.Size == 0 || b.RefillTimeMS == 0 || b.RefillTimeMS > maxRefillMS) {
				return configf("rate_limiter.%s: %d in %d ms: choose at least 1, in 1 ms to a day", name, b.Size, b.RefillTimeMS)
			}
		}
	}
	return nil
}
