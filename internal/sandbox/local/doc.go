// Package local is the sandbox provider for development: folders and processes of this machine.
//
// A sandbox is one folder below the state folder (0700), and that folder is all the truth there
// is: any process of this user may drive it, and none keeps anything in memory.
//
//	STATE/bin/shim-HASH          the program that is the shim, out of reach of a rebuild
//	STATE/etc                    what commands see of /etc, at level bwrap
//	STATE/volumes/NAME           volumes
//	STATE/sandboxes/ID/record.json
//	                  /workspace /home /tmp
//	                  /shim/isolation.json   how the shim wraps commands; absent at level process
//	                  /shim/NODE-RUN/        the shim's directories
//
// It is built under another name and renamed, so it exists whole or not at all.
//
// There are two levels, probed at start and shown in Info.Isolation:
//
//   - bwrap: namespaces of its own and a root made of /usr, a few files of /etc and the sandbox's own
//     folders. Other sandboxes, the state folder, this machine's sockets and processes are not in it.
//     The network is shared unless the spec blocks it.
//   - process: a plain process of this user with a small environment. It can read what the user can;
//     there is no protection at all, and New warns so.
//
// Image, snapshot and sizes of a Spec mean nothing here: the image is this machine.
package local
