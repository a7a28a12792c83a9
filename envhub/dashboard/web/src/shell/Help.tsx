import { Modal } from '../ui/Modal'
import { useShownKeys } from './keys'

/** All keys that work on the page in sight. */
export function Help({ onClose }: { onClose: () => void }) {
  return (
    <Modal title="Keys" onClose={onClose}>
      {useShownKeys().map((scope) => (
        <section key={scope.title} className="keys-list">
          <h3>{scope.title}</h3>
          {scope.keys.map((key) => (
            <div key={key.keys}>
              <span>{key.does}</span>
              <span>
                {key.keys.split(' ').map((name) => (
                  <kbd key={name}>{name}</kbd>
                ))}
              </span>
            </div>
          ))}
        </section>
      ))}
      <div className="dialog-foot">
        <button onClick={onClose}>Close</button>
      </div>
    </Modal>
  )
}
