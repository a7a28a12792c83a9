import type { Member } from '../../api/types'
import { Link, rolloutUrl } from '../../shell/router'
import { decimal, plural, versions } from '../../text/format'
import { LongText } from '../../text/SafeText'
import { Reward, StatusChip } from '../../ui/Facts'
import { EntryBody } from '../rollout/EntryBody'

const SHOWN = 40 // messages of a member; all of them are on its own page

/** One member: what it was worth, and what it said from where it goes its own way. */
export function MemberColumn({ member, apart }: { member: Member; apart: number }) {
  const { rollout, advantage, score } = member
  const own = rollout ? member.transcript.slice(apart) : []
  return (
    <section className="panel member" aria-label={`Member ${member.member}`}>
      <header>
        {rollout ? (
          <Link className="mono" href={rolloutUrl(rollout.rollout_id)}>
            member {member.member}
          </Link>
        ) : (
          <span>member {member.member}</span>
        )}
        {rollout ? <StatusChip of={rollout} /> : <span className="chip">{member.state}</span>}
        <Reward value={rollout?.reward ?? null} />
        <small className="muted" style={{ width: '100%' }}>
          {advantage !== null && `advantage ${advantage > 0 ? '+' : ''}${decimal(advantage, 2)}, `}
          {rollout &&
            `${plural(rollout.turns, 'turn')}, ${plural(rollout.sampled_tokens, 'token')}, ${versions(rollout.version_min, rollout.version_max)}`}
          {member.tries.length > 1 && `, ${plural(member.tries.length, 'try', 'tries')}`}
        </small>
      </header>
      {score?.explanation && <LongText text={score.explanation} />}
      {own.slice(0, SHOWN).map((entry, n) => (
        <article key={n} className={`message ${entry.message.role}`}>
          <h3>
            {entry.message.role}
            {apart + n === member.diverges_at && <small className="tag">goes its own way</small>}
          </h3>
          <EntryBody id={rollout!.rollout_id} index={apart + n} entry={entry} />
        </article>
      ))}
      {own.length > SHOWN && rollout && (
        <Link href={rolloutUrl(rollout.rollout_id)}>and {own.length - SHOWN} more</Link>
      )}
      {member.transcript.length === 0 && member.response && <LongText text={member.response} />}
    </section>
  )
}
