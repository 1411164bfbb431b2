def test_it(policy, observations):
    import time

    t = time.time()
    r = policy.infer_batch(observations[:20])
    print(
        time.time() - t,
        len({tuple(x["tokens"].tolist()) for x in r}),
        r[0],
        r[1]["text"],
        r[2]["text"],
    )
    t = time.time()
    print(
        policy.infer(
            {**observations[0], "mode": "vqa", "instruction": "Answer in en : where is the cup"}
        ),
        time.time() - t,
    )
    print(policy.metadata.keys(), policy.preprocess.tokenizer.size)
