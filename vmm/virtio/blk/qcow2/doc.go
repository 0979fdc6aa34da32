// Package qcow2 stores disks in files of QEMU's qcow2 format (docs/interop/qcow2.rst of
// QEMU), versions 2 and 3. It may import vmm/virtio/blk, klauspost/compress and the
// standard library; it must never open a file that an image names, guess that a file is
// an image, or trust a number in one.
//
// An image is read with every table that it may have: of any cluster size and width of
// reference counts, with compressed and zero clusters. It is written without compression.
// Images with a backing file, an external data file, encryption or features that are not
// known are refused, and so is writing to one whose reference counts are said to be wrong.
//
// Changes of tables are kept in memory until a flush or until there are too many, and
// then go to the file in an order in which every prefix is a sound image, but for space
// that is counted and not used: data and reference counts, the table of reference counts,
// L2 tables, the L1 table, with a flush of the host between two of them. A cluster that
// is given up is counted as free, and used again, only when no table in the file refers
// to it any more. So a crash loses no more than a guest that did not flush has to expect.
package qcow2
