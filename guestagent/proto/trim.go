package proto

// TypeTrim is an addition to the protocol: it asks the guest agent to give memory back that
// it does not need, as before the guest is saved. Agents that do not know it answer
// [TypeError].
const TypeTrim Type = "gomsb.trim"

// TypeTrimmed is the answer, with an [Empty] payload: the agent has done what it can.
const TypeTrimmed Type = "gomsb.trimmed"
