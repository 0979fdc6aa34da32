//go:build linux

// Command prepare makes what the end-to-end suite starts from, on the host, where it is
// fast and nothing has to be emulated:
//
//	prepare FOLDER ARCHIVE...
//
// FOLDER/home becomes a data root into which msb (MSB_PATH) has loaded the archives;
// FOLDER/NAME.tree describes what GNU tar, and not our own code, makes of the image in
// NAME.tar; FOLDER/mini.raw is an ext4 disk with the root of mini.tar. It runs as root,
// as GNU tar needs that for owners, devices and capabilities. It may import
// tests/e2e/tree and the standard library; it must never import the code whose work it
// is compared with.
package main
