import { useState } from 'react'

import { useApi } from '../../api/queries'
import type { TranscriptEntry } from '../../api/types'
import { count } from '../../text/format'
import { MessageBody, type Shown } from './Message'

interface Props {
  id: string // of the rollout
  index: number // of the entry in its transcript
  entry: TranscriptEntry
  show?: Shown
}

/** A message of a transcript. Where the server sent the beginning of a long one, the rest comes when asked for. */
export function EntryBody({ id, index, entry, show }: Props) {
  const [wanted, setWanted] = useState(false)
  const { data, error } = useApi(
    '/api/rollouts/{rollout_id}/messages/{index}',
    { rollout_id: id, index },
    { enabled: wanted },
  )
  const message = data ?? entry.message
  return (
    <>
      <MessageBody message={message} {...(show && { show })} />
      {entry.cut_from > 0 && !data && (
        <p className="cut">
          The server cut this message: its longest text has {count(entry.cut_from)} characters.{' '}
          <button className="quiet more" disabled={wanted && !error} onClick={() => setWanted(true)}>
            {wanted && !error ? 'Fetching it…' : 'Fetch it whole'}
          </button>
          {error && <span className="bad"> {error.message}</span>}
        </p>
      )}
    </>
  )
}
