package lab

import "fmt"

// Unplug takes the cable out of an interface of the host: the interface keeps its
// configuration but loses its carrier, and no frame passes in either direction.
func (h *Host) Unplug(ifname string) error { return h.cable(ifname, false) }

// Plug undoes Unplug.
func (h *Host) Plug(ifname string) error { return h.cable(ifname, true) }

// cable sets the port of the segment at the other end of the interface up or down.
func (h *Host) cable(ifname string, plugged bool) error {
	link, err := h.nl.LinkByName(ifname)
	if err != nil {
		return err
	}
	port, err := h.segment.wireNl.LinkByIndex(link.Attrs().ParentIndex)
	if err != nil {
		return fmt.Errorf("port of %s of %s: %w", ifname, h.Name, err)
	}
	if plugged {
		return h.segment.wireNl.LinkSetUp(port)
	}
	return h.segment.wireNl.LinkSetDown(port)
}
