package state

import "time"

type Before struct {
	Node  string
	Owner Owner
	TTL   string
}

type Contested struct {
	MAC   string    `json:"mac"`
	By    string    `json:"by"`
	Tries int       `json:"tries"`
	Since time.Time `json:"since"`
	At    time.Time `json:"at"`
}

const RecordContested RecordState = "contested"
