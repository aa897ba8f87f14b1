// Every bound of the wire, with its unit in its name and where its number comes from (SPEC §13).

/** Largest DATA frame's body: 64 KiB leave a 4 Mbit/s link in 130 ms, and sealing so much costs little more than sealing one byte. */
export const DATA_MAX_BYTES = 65_536
/** Largest plain payload of a record: the largest head or DATA frame and what stands before it in its frame. */
export const RECORD_PAYLOAD_MAX_BYTES = DATA_MAX_BYTES + 2_048
/** AES-256-GCM's tag. */
export const SEAL_TAG_BYTES = 16
/** Largest channel message: a full record, its tag and its header (kind 1, lane 4, number 8), rounded up. */
export const MESSAGE_MAX_BYTES = RECORD_PAYLOAD_MAX_BYTES + 1_024 // 68,608
/** Largest message before the peer is authenticated: HELLO is some 400 bytes. */
export const HANDSHAKE_MESSAGE_MAX_BYTES = 4_096
/** Lane keys step after this many records, far below the 2^32 calls NIST SP 800-38D allows a key. */
export const LANE_KEY_STEP_RECORDS = 2 ** 24

/** A head, or trailers, encoded: names, values, their lengths and the extension map. */
export const HEAD_MAX_BYTES = 65_536
export const HEAD_MAX_FIELDS = 100
/** Fields of a head's extension map. */
export const HEAD_MAX_EXTENSIONS = 16
/** Interim answers (1xx) before the final one: more is a storm, not an answer. */
export const INTERIM_HEADS_MAX_COUNT = 16
export const SERVICE_NAME_MAX_BYTES = 63
export const AGENT_ID_MAX_BYTES = 63

/** A body up to this length rides inside its OPEN or HEAD frame, so that a small message is one frame. */
export const INLINE_BODY_MAX_BYTES = 4_096

export const STREAMS_MAX_COUNT = 4_096
export const LANES_MAX_COUNT = 16
/** Channels of a session at once: each lane's, and one more for each while it moves. The oldest without a lane makes room for one more. */
export const CHANNELS_MAX_COUNT = 2 * LANES_MAX_COUNT
export const STREAM_ID_MAX = 2 ** 53 - 1

/** Credit: where a stream's window begins, where it begins when three quarters of a budget are used, where it ends. */
export const FIRST_CREDIT_BYTES = 65_536
export const SCARCE_CREDIT_BYTES = 16_384
export const CREDIT_WINDOW_MAX_BYTES = 6 * 1024 * 1024
export const SESSION_BUDGET_BYTES = 32 * 1024 * 1024
export const GATEWAY_BUDGET_BYTES = 256 * 1024 * 1024
export const AGENT_BUDGET_BYTES = 64 * 1024 * 1024

/** What a stream holds of what its owner wrote before write() says stop. */
export const SEND_QUEUE_BYTES = 65_536

/** Unacknowledged bytes on a lane. */
export const IN_FLIGHT_MIN_BYTES = 128 * 1024
export const IN_FLIGHT_MAX_BYTES = 8 * 1024 * 1024
/** A round trip counts as at least this long for the bound: a turn of a busy event loop is part of it. */
export const ROUND_TRIP_FLOOR_MS = 20
/** An ack leaves at the latest after so many bytes, records or milliseconds. */
export const ACK_AFTER_BYTES = 65_536
export const ACK_AFTER_RECORDS = 16
export const ACK_AFTER_MS = 25

/** A channel from which nothing came for so long, nor for so many round trips, while something waits for an answer: the agent moves its lanes to another. */
export const STALLED_AFTER_MS = 2_000
export const STALLED_AFTER_ROUND_TRIPS = 4

/** BEATs that a gateway answers before it knows who asks: a probe is one. */
export const PROBES_MAX_COUNT = 4

/**
 * Messages that a carrier still takes while it is full: a lane that moves sends all its records again, and heartbeats are answered.
 * A peer that asks for more answers than this and reads none is cut off; each costs us some 250 bytes.
 */
export const SENT_WHILE_FULL_MAX_COUNT = 65_536

/** Records of nothing but acks that wait for an ack. A peer acknowledges them with whatever it sends next, so there are hardly ever many. */
export const ACKS_KEPT_MAX_COUNT = 4_096
/** No stream is opened while so much waits to leave before it: streams that come and go would heap up their heads on a lane that is stuck. */
export const OPENS_WAITING_MAX_BYTES = IN_FLIGHT_MAX_BYTES
export const OPENS_WAITING_MAX_COUNT = 16_384
/** Frames that wait to leave, beside DATA: eight for each stream of either end. A peer whose lane has more asks for answers and takes none. */
export const FRAMES_WAITING_MAX_COUNT = 65_536

/** A stream's fair turn: what the lane delivers in 20 ms, within these. */
export const TURN_MS = 20
export const TURN_MIN_BYTES = 4_096
export const TURN_MAX_BYTES = 65_536

/** Between these an agent takes the gateway's word for its times. Ten beats a second are a load, one a minute is no sign of life. */
export const HEARTBEAT_MIN_MS = 100
export const HEARTBEAT_MAX_MS = 60_000
export const GRACE_MAX_MS = 600_000
