// A client of the AWS SDK for Go v2 for tests: the default credential chain, and what tests ask with its credentials.
//
//	aws-sdk-go-v2 whoami             the caller's ARN
//	aws-sdk-go-v2 credentials        access key id, secret and session token
//	aws-sdk-go-v2 token CLUSTER      a token for a cluster, as kubectl's plugins make it
package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

func main() {
	text, err := run(context.Background(), os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(text)
}

func run(ctx context.Context, args []string) (string, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return "", err
	}
	client := sts.NewFromConfig(cfg)
	switch {
	case len(args) == 1 && args[0] == "whoami":
		who, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		if err != nil {
			return "", err
		}
		return aws.ToString(who.Arn), nil
	case len(args) == 1 && args[0] == "credentials":
		credentials, err := cfg.Credentials.Retrieve(ctx)
		if err != nil {
			return "", err
		}
		return credentials.AccessKeyID + " " + credentials.SecretAccessKey + " " + credentials.SessionToken, nil
	case len(args) == 2 && args[0] == "token":
		headers := func(stack *middleware.Stack) error {
			for name, value := range map[string]string{"x-k8s-aws-id": args[1], "X-Amz-Expires": "60"} {
				if err := smithyhttp.SetHeaderValue(name, value)(stack); err != nil {
					return err
				}
			}
			return nil
		}
		presign := sts.NewPresignClient(client, sts.WithPresignClientFromClientOptions(sts.WithAPIOptions(headers)))
		request, err := presign.PresignGetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		if err != nil {
			return "", err
		}
		return "k8s-aws-v1." + base64.RawURLEncoding.EncodeToString([]byte(request.URL)), nil
	}
	return "", fmt.Errorf("usage: %s whoami | credentials | token CLUSTER", os.Args[0])
}
