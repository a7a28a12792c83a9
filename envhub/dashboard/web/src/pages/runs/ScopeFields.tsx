import type { RunDetail, Scope } from '../../api/types'
import { oneLine } from '../../text/visible'

interface Props {
  detail: RunDetail
  scope: Scope
  onChange: (scope: Scope) => void
}

/** Whom an act is for: those that every field agrees with. */
export function ScopeFields({ detail, scope, onChange }: Props) {
  const set = (name: keyof Scope) => (value: string) => onChange({ ...scope, [name]: value || null })
  return (
    <fieldset className="scope">
      <legend>For</legend>
      <Choose
        label="Environment"
        of={detail.environments}
        value={scope.environment_id}
        onChange={set('environment_id')}
      />
      <Choose label="Policy" of={detail.policies} value={scope.policy_id} onChange={set('policy_id')} />
      <Name label="Group" value={scope.group_id} onChange={set('group_id')} />
      <Name label="Rollout" value={scope.rollout_id} onChange={set('rollout_id')} />
    </fieldset>
  )
}

interface FieldProps {
  label: string
  value: string | null
  onChange: (value: string) => void
}

function Choose({ label, of, value, onChange }: FieldProps & { of: string[] }) {
  return (
    <label>
      <span>{label}</span>
      <select value={value ?? ''} onChange={(event) => onChange(event.target.value)}>
        <option value="">all</option>
        {of.map((name) => (
          <option key={name} value={name}>
            {oneLine(name, 60)}
          </option>
        ))}
      </select>
    </label>
  )
}

function Name({ label, value, onChange }: FieldProps) {
  return (
    <label>
      <span>{label}</span>
      <input
        value={value ?? ''}
        placeholder="all"
        autoComplete="off"
        spellCheck={false}
        onChange={(event) => onChange(event.target.value.trim())}
      />
    </label>
  )
}
