"""TRL's GRPOTrainer learns one-digit sums: the rollouts are envhub's, the training is TRL's.

pip install "envhub-rl[serve,torch]" trl
python docs/examples/trl_grpo.py MODEL      # a directory, or a name on the Hub, of an instruct model
"""

import argparse

from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from envhub import Job, Settings
from envhub.trainers.embedded.trl import RolloutFunction, delivered_reward


def config(output: str, steps: int) -> GRPOConfig:
    """Two groups of four rollouts a step, in float32."""
    return GRPOConfig(
        output_dir=output,
        max_steps=steps,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=16,
        learning_rate=1e-5,
        lr_scheduler_type="constant",
        bf16=False,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--output", default="trl-output")
    parser.add_argument("--database", default="envhub.db", help="which keeps every rollout: see `envhub trace list`")
    told = parser.parse_args()

    with RolloutFunction(Job(("envhub/arithmetic-v0",)), Settings(told.database)) as rollouts:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(told.model, dtype="float32"),
            processing_class=AutoTokenizer.from_pretrained(told.model),
            train_dataset=rollouts.dataset(),
            rollout_func=rollouts,
            reward_funcs=delivered_reward,
            args=config(told.output, told.steps),
        )
        trainer.train()
    rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    print("reward by step:", " ".join(f"{reward:.2f}" for reward in rewards))


if __name__ == "__main__":
    main()
