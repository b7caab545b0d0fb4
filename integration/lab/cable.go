package lab

import "fmt"

// Unplug takes the cable out of an interface of the host: the interface stays
// as configured but loses its carrier, and no frame passes either way.
func (h *Host) Unplug(ifname string) error { return h.cable(ifname, false) }

// Plug undoes Unplug.
func (h *Host) Plug(ifname string) error { return h.cable(ifname, true) }

// cable sets the far end of the interface, the port of the segment, up or down.
func (h *Host) cable(ifname string, in bool) error {
	link, err := h.nl.LinkByName(ifname)
	if err != nil {
		return err
	}
	port, err := h.lab.wireNl.LinkByIndex(link.Attrs().ParentIndex)
	if err != nil {
		return fmt.Errorf("port of %s of %s: %w", ifname, h.Name, err)
	}
	if in {
		return h.lab.wireNl.LinkSetUp(port)
	}
	return h.lab.wireNl.LinkSetDown(port)
}
