package microsandbox

import (
	"time"

	"github.com/gomsb/gomsb/internal/launch"
)

// launch is the runtime's form of the limits. It fails with ErrInvalidConfig.
func (c *NetworkRateLimiterConfig) launch() (*launch.RateLimiter, error) {
	if c == nil {
		return nil, nil
	}
	var err error
	bucket := func(b *TokenBucketConfig) *launch.TokenBucket {
		if b == nil {
			return nil
		}
		if b.RefillTime%time.Millisecond != 0 || b.RefillTime < 0 {
			err = fail(ErrInvalidConfig, "a rate limit's refill time %s is not in whole milliseconds", b.RefillTime)
		}
		return &launch.TokenBucket{Size: b.Size, RefillTimeMS: uint64(b.RefillTime / time.Millisecond), OneTimeBurst: b.OneTimeBurst}
	}
	limiter := func(l *RateLimiterConfig) *launch.Limiter {
		if l == nil {
			return nil
		}
		return &launch.Limiter{Bandwidth: bucket(l.Bandwidth), Ops: bucket(l.Ops)}
	}
	r := &launch.RateLimiter{Egress: limiter(c.Egress), Ingress: limiter(c.Ingress)}
	if err != nil {
		return nil, err
	}
	return r, wrap(ErrInvalidConfig, r.Validate())
}

// limiterConfig is the SDK's form of a limit.
func limiterConfig(l *launch.Limiter) *RateLimiterConfig {
	if l == nil {
		return nil
	}
	bucket := func(b *launch.TokenBucket) *TokenBucketConfig {
		if b == nil {
			return nil
		}
		return &TokenBucketConfig{Size: b.Size, RefillTime: time.Duration(b.RefillTimeMS) * time.Millisecond, OneTimeBurst: b.OneTimeBurst}
	}
	return &RateLimiterConfig{bucket(l.Bandwidth), bucket(l.Ops)}
}
