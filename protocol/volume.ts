// How much went each way: of a channel since it was made, of a session over all the channels that it ever had.

/** Bytes of messages, without what a transport puts around them. */
export class Volume {
  sentBytes = 0
  receivedBytes = 0
}
