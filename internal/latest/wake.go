package latest

// Wake wakes the goroutine that receives from it. Wakes that nobody has received
// yet are one. Create it with [NewWake]; it is safe for concurrent use.
type Wake chan struct{}

// NewWake returns a Wake that is not set.
func NewWake() Wake { return make(Wake, 1) }

// Set wakes the receiver, now or as soon as it receives. It never blocks.
func (w Wake) Set() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// Clear takes back a wake that nobody has received, if there is one.
func (w Wake) Clear() {
	select {
	case <-w:
	default:
	}
}
