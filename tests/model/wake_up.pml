/* The slot ring and its wake-up between a writer and a reader, as in schema/ipc/ring.h, on a machine
 * whose stores are delayed: each process has a store buffer (first in, first out) that drains into
 * memory at any time; a load sees the process's own newest store, else memory; a fence waits until
 * its buffer is empty. That is x86's total store order.
 *
 * One chain of three processes, each of which sleeps:
 *
 *   client --submit ring--> kaasd --work ring--> executor
 *
 * The client sends MESSAGES; kaasd passes each on; the executor takes each. A ring has SLOTS slots,
 * so the writer has to wait for room (it polls, as ours does). Each reader sleeps when its ring is
 * empty: flag up, fence, look once more, sleep. Each writer publishes, fences, looks at the flag,
 * wakes if it is up and this sleep was not answered yet. The bell keeps one ring, as a socket or a
 * changed futex word does.
 *
 * Shown: nobody sleeps for ever while a message waits (no invalid end state), no slot is overwritten
 * before it was read, none is read before it was written.
 * -DNO_WAKER_FENCE and -DNO_SLEEPER_FENCE leave out one fence each, -DNO_SECOND_LOOK the look between
 * raising the flag and sleeping: each loses a wake-up. -DPAIR leaves out the executor, so that more
 * messages can be looked at.
 */
#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef SLOTS
#define SLOTS 2         /* At most 2. */
#endif
#define RINGS 2

/* Memory, per ring r: slots' sequences, the reader's counter, the reader's sleep flag. */
#define SEQUENCE(r, i) ((r) * 4 + (i))
#define CONSUMED(r) ((r) * 4 + 2)
#define SLEEPING(r) ((r) * 4 + 3)
byte memory[8];

/* Store buffers, one a process: the client is 0, kaasd 1, the executor 2. */
#define DEPTH 4
chan buffered[3] = [DEPTH] of { byte, byte };

bool bell[RINGS];       /* Of the reader of each ring. */
byte content[4];        /* What the slots hold: the message's number, written with the sequence. */

/* A store goes to the buffer; it waits for room as a processor does. */
#define STORE(me, address, value) buffered[me]!address, value

/* The newest own store to the address, else memory. FIFO order: scan from oldest to newest. */
inline load(me, address, result) {
  d_step {
    result = memory[address];
    seen = 0;
    do
    :: seen < len(buffered[me]) ->
       buffered[me]?at, what;
       buffered[me]!at, what;
       if
       :: at == address -> result = what
       :: else
       fi;
       seen++
    :: else -> break
    od;
    seen = 0; at = 0; what = 0
  }
}

inline fence(me) { empty(buffered[me]) }

/* Drains store buffers, oldest first, at any time. */
active proctype drain() {
  byte address, value, who;
end:
  do
  :: atomic { buffered[0]?address, value -> memory[address] = value; address = 0; value = 0 }
  :: atomic { buffered[1]?address, value -> memory[address] = value; address = 0; value = 0 }
  :: atomic { buffered[2]?address, value -> memory[address] = value; address = 0; value = 0 }
  od
}

/* RingWriter::try_write: waits for room, fills the slot, publishes its sequence. */
inline write(me, ring, position) {
  do
  :: load(me, CONSUMED(ring), word);
     if
     :: position - word < SLOTS -> break
     :: else -> /* Polls: another process must move. */ memory[CONSUMED(ring)] > word
     fi
  od;
  skip;
  d_step {
    /* The reader has finished with what is overwritten. */
    assert(position < SLOTS || memory[CONSUMED(ring)] > position - SLOTS);
    content[ring * SLOTS + position % SLOTS] = position + 1;
    word = 0
  }
  STORE(me, SEQUENCE(ring, position % SLOTS), position + 1);
}

/* RingWriter::wake_due and the ring of the bell. */
inline wake(me, ring, woken) {
#ifndef NO_WAKER_FENCE
  fence(me);
#endif
  load(me, SLEEPING(ring), word);
  if
  :: (word % 2 == 1) && (word != woken) -> woken = word; bell[ring] = true
  :: else
  fi;
  word = 0
}

/* The reader: takes the message at `position`, sleeping for it if it is not there. */
inline take(me, ring, position) {
  do
  :: load(me, SEQUENCE(ring, position % SLOTS), word);
     if
     :: word == position + 1 -> break
     :: else
     fi;
     /* announce_sleep */
     load(me, SLEEPING(ring), flag);
     if
     :: flag % 2 == 0 -> flag++
     :: else
     fi;
     STORE(me, SLEEPING(ring), flag);
#ifndef NO_SLEEPER_FENCE
     fence(me);
#endif
#ifndef NO_SECOND_LOOK
     load(me, SEQUENCE(ring, position % SLOTS), word);
#endif
     if
     :: word == position + 1
     :: else -> atomic { bell[ring] -> bell[ring] = false }   /* Sleeps. */
     fi;
     /* retract_sleep. A flag that has gone all the way round would look like one that was answered:
      * ours goes round after 2^31 sleeps, this one never gets so far. */
     STORE(me, SLEEPING(ring), flag + 1)
  od;
  skip;
  d_step {
    assert(content[ring * SLOTS + position % SLOTS] == position + 1);
    word = 0; flag = 0
  }
  STORE(me, CONSUMED(ring), position + 1)
}

active proctype client() {
  byte position, word, woken, seen, at, what;
  do
  :: position < MESSAGES -> write(0, 0, position); wake(0, 0, woken); position++
  :: else -> break
  od
}

active proctype kaasd() {
  byte position, word, flag, woken, seen, at, what;
  do
  :: position < MESSAGES ->
     take(1, 0, position);
#ifndef PAIR
     write(1, 1, position);
     wake(1, 1, woken);
#endif
     position++
  :: else -> break
  od
}

#ifndef PAIR
active proctype executor() {
  byte position, word, flag, seen, at, what;
  do
  :: position < MESSAGES -> take(2, 1, position); position++
  :: else -> break
  od
}
#endif
