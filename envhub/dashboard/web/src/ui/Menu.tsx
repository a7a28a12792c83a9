import { Check } from 'lucide-react'
import { DropdownMenu } from 'radix-ui'
import type { ReactNode } from 'react'

interface Item {
  id: string
  label: string
  checked?: boolean // an item that is on or off; the menu stays open
  onSelect: () => void
}

/** A button that opens a list of things to do, or to switch on and off. */
export function Menu({ label, trigger, items }: { label: string; trigger: ReactNode; items: Item[] }) {
  return (
    <DropdownMenu.Root modal={false}>
      <DropdownMenu.Trigger asChild>
        <button aria-label={label}>{trigger}</button>
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content className="menu" align="end" sideOffset={5} aria-label={label}>
          {items.map((item) =>
            item.checked === undefined ? (
              <DropdownMenu.Item key={item.id} onSelect={item.onSelect}>
                {item.label}
              </DropdownMenu.Item>
            ) : (
              <DropdownMenu.CheckboxItem
                key={item.id}
                checked={item.checked}
                onSelect={(event) => {
                  event.preventDefault()
                  item.onSelect()
                }}
              >
                <span className="check-mark">{item.checked && <Check size={14} />}</span>
                {item.label}
              </DropdownMenu.CheckboxItem>
            ),
          )}
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  )
}
