// Package record is what tests/e2e/draw writes and the end-to-end tests read. It may import
// the standard library only; it must never know what is asserted about its records.
package record
