#!/usr/bin/env python3
"""Writes the data beside it with other people's implementations: lxml canonicalises, xmlsec and signxml sign.

    python3 -m venv VENV && VENV/bin/pip install lxml xmlsec signxml
    VENV/bin/python generate.py

Keys are made anew in every run and never written; a run changes every signed file and no canonical form.
"""

import base64
import datetime
import json
import pathlib
import random

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from lxml import etree
from signxml import XMLSigner
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod

HERE = pathlib.Path(__file__).parent
ENTITY = "https://idp.example.com/metadata"


def certificate(key):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp.example.com")])
    start = datetime.datetime(2020, 1, 1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(7)
    builder = builder.not_valid_before(start).not_valid_after(start + datetime.timedelta(days=365))
    return builder.sign(key, hashes.SHA256())


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def metadata(*certificates):
    keys = "".join(
        f"""
    <md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:X509Data><ds:X509Certificate>
{base64.encodebytes(one.public_bytes(serialization.Encoding.DER)).decode()}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"""
        for one in certificates
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!-- made by generate.py -->
<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="{ENTITY}">
  <md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">{keys}
    <md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="https://idp.example.com/sso"/>
  </md:IDPSSODescriptor>
</md:EntityDescriptor>
"""


RESPONSE = """<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns="urn:example:unused" ID="_response" Version="2.0" IssueInstant="2026-03-14T10:26:00Z" Destination="https://signin.aws.amazon.com/saml">
  <saml:Issuer xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion">https://idp.example.com/metadata</saml:Issuer>
  <samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>
  <saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" ID="_assertion" Version="2.0" IssueInstant="2026-03-14T10:26:00Z">
    <saml:Issuer>https://idp.example.com/metadata</saml:Issuer>
    <saml:Subject>
      <saml:NameID Format="urn:oasis:names:tc:SAML:2.0:nameid-format:persistent">al<!-- a comment -->ice &amp; b&#xF6;b</saml:NameID>
      <saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">
        <saml:SubjectConfirmationData NotOnOrAfter="2026-03-14T10:31:00Z" Recipient="https://signin.aws.amazon.com/saml"/>
      </saml:SubjectConfirmation>
    </saml:Subject>
    <saml:Conditions NotBefore="2026-03-14T10:21:00Z" NotOnOrAfter="2026-03-14T10:31:00Z">
      <saml:AudienceRestriction><saml:Audience>urn:amazon:webservices</saml:Audience></saml:AudienceRestriction>
    </saml:Conditions>
    <saml:AuthnStatement AuthnInstant="2026-03-14T10:26:00Z" SessionNotOnOrAfter="2026-03-14T18:26:00Z"/>
    <saml:AttributeStatement>
      <saml:Attribute Name="https://aws.amazon.com/SAML/Attributes/Role"><saml:AttributeValue xsi:type="xs:string">arn:aws:iam::111122223333:role/Dev,arn:aws:iam::111122223333:saml-provider/corp</saml:AttributeValue></saml:Attribute>
      <saml:Attribute Name="https://aws.amazon.com/SAML/Attributes/RoleSessionName"><saml:AttributeValue xmlns:xs="http://www.w3.org/2001/XMLSchema" xsi:type="xs:string"><![CDATA[alice]]></saml:AttributeValue></saml:Attribute>
    </saml:AttributeStatement>
  </saml:Assertion>
</samlp:Response>"""

SAML = "{urn:oasis:names:tc:SAML:2.0:assertion}"
EXCLUSIVE = {False: xmlsec.Transform.EXCL_C14N, True: xmlsec.Transform.EXCL_C14N_COMMENTS}


def sign_xmlsec(root, element, key, method, digest, comments=False, prefixes=None):
    xmlsec.tree.add_ids(root, ["ID"])
    signature = xmlsec.template.create(element, EXCLUSIVE[comments], method, ns="ds")
    element.insert(1, signature)
    reference = xmlsec.template.add_reference(signature, digest, uri="#" + element.get("ID"))
    xmlsec.template.add_transform(reference, xmlsec.Transform.ENVELOPED)
    transform = xmlsec.template.add_transform(reference, EXCLUSIVE[comments])
    if prefixes:
        xmlsec.template.transform_add_c14n_inclusive_namespaces(transform, prefixes)
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory(pem(key), xmlsec.KeyFormat.PEM)
    context.sign(signature)


def sign_signxml(root, element, key, certificate):
    placeholder = etree.SubElement(element, "{http://www.w3.org/2000/09/xmldsig#}Signature", Id="placeholder")
    element.insert(1, placeholder)
    signer = XMLSigner(
        signature_algorithm=SignatureMethod.RSA_SHA256,
        digest_algorithm=DigestAlgorithm.SHA256,
        c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
    )
    return signer.sign(
        root,
        key=pem(key).decode(),
        cert=certificate.public_bytes(serialization.Encoding.PEM).decode(),
        reference_uri="#" + element.get("ID"),
    )


def signed():
    keys = {
        "rsa": rsa.generate_private_key(65537, 2048),
        "p256": ec.generate_private_key(ec.SECP256R1()),
        "p384": ec.generate_private_key(ec.SECP384R1()),
    }
    certificates = {name: certificate(key) for name, key in keys.items()}
    (HERE / "metadata.xml").write_text(metadata(*certificates.values()))
    T = xmlsec.Transform
    cases = [
        # name, key, signature, digest, elements, comments, prefixes
        ("xmlsec-rsa-sha256-assertion", "rsa", T.RSA_SHA256, T.SHA256, ["a"], False, None),
        ("xmlsec-rsa-sha384-response", "rsa", T.RSA_SHA384, T.SHA384, ["r"], False, None),
        ("xmlsec-rsa-sha512-both", "rsa", T.RSA_SHA512, T.SHA512, ["a", "r"], False, None),
        ("xmlsec-ecdsa-sha256-assertion", "p256", T.ECDSA_SHA256, T.SHA256, ["a"], False, "xs saml #default"),
        ("xmlsec-ecdsa-sha384-response", "p384", T.ECDSA_SHA384, T.SHA256, ["r"], False, "xs"),
        ("xmlsec-comments-assertion", "rsa", T.RSA_SHA256, T.SHA256, ["a"], True, None),
    ]
    for name, key, method, digest, elements, comments, prefixes in cases:
        root = etree.fromstring(RESPONSE)
        for which in elements:
            element = root if which == "r" else root.find(SAML + "Assertion")
            sign_xmlsec(root, element, keys[key], method, digest, comments, prefixes)
        (HERE / f"{name}.xml").write_bytes(etree.tostring(root))
    for name, which in [("signxml-assertion", "a"), ("signxml-response", "r")]:
        root = etree.fromstring(RESPONSE)
        element = root if which == "r" else root.find(SAML + "Assertion")
        root = sign_signxml(root, element, keys["rsa"], certificates["rsa"])
        (HERE / f"{name}.xml").write_bytes(etree.tostring(root))
    # What must be refused though its signature is good.
    root = etree.fromstring(RESPONSE)
    sign_xmlsec(root, root, keys["rsa"], T.RSA_SHA1, T.SHA1)
    (HERE / "refused-sha1.xml").write_bytes(etree.tostring(root))
    root = etree.fromstring(RESPONSE)
    sign_xmlsec(root, root, keys["rsa"], T.RSA_SHA256, T.SHA1)
    (HERE / "refused-sha1-digest.xml").write_bytes(etree.tostring(root))


# Not here: a namespace with an ampersand, which libxml2 writes unescaped, and the prefix #default, which lxml drops on
# the way to libxml2. A response signed by xmlsec has the latter.
WRITTEN = [
    "<a/>",
    '<a b="2" a="1"/>',
    '<a xmlns="urn:d"><b xmlns=""><c xmlns="urn:d"/></b></a>',
    '<a xmlns="urn:d" xmlns:p="urn:p"><p:b><c/></p:b></a>',
    '<p:a xmlns:p="urn:p" xmlns:q="urn:q"><q:b p:x="1"/><q:b q:x="1"/></p:a>',
    '<p:a xmlns:p="urn:p"><p:b xmlns:p="urn:q"><p:c xmlns:p="urn:p"/></p:b></p:a>',
    '<a xmlns:z="urn:1" xmlns:y="urn:2" z:k="1" y:k="2" k="3" a="4"/>',
    '<a xmlns:z="urn:1" xmlns:y="urn:1"><z:b y:k="1"/></a>',
    '<a xml:lang="en" xml:space="preserve"><b xml:lang="de"/></a>',
    "<a>&lt;&gt;&amp;&quot;&apos;&#13;&#9;&#10;\r\n\r</a>",
    "<a b=\"&lt;&gt;&amp;&quot;&apos;&#13;&#9;&#10;\t\r\n\r\"/>",
    "<a b='\"'/>",
    "<a><![CDATA[<&>]]]]><![CDATA[>]]></a>",
    "<a>x<!-- c -->y<!----></a>",
    "<!-- before --><a/><!-- after -->",
    '<?xml version="1.0" encoding="UTF-8"?>\n<a>\n  <b/>\n</a>\n',
    "<a>\u00e9\u20ac\U0001f600</a>",
    '<a xmlns:b="urn:b"><c xmlns:b="urn:b"><b:d/></c></a>',
    '<a xmlns="urn:1"><b xmlns="urn:2"/><b xmlns="urn:1"/><b/></a>',
]


def grown(random):
    prefixes = ["", "a", "b", "c"]
    uris = ["urn:1", "urn:2", "urn:3"]

    def element(depth, scope):
        scope = dict(scope)
        declared = []
        for prefix in prefixes:
            if random.random() < 0.3:
                uri = random.choice(uris + ([""] if prefix == "" else []))
                scope[prefix] = uri
                declared.append((prefix, uri))
        prefix = random.choice([p for p in scope] + [""])
        name = (prefix + ":" if prefix else "") + random.choice("xyz")
        parts = [f' xmlns{":" + p if p else ""}="{uri}"' for p, uri in declared]
        seen = set()
        for _ in range(random.randrange(3)):
            p = random.choice([p for p in scope if p] + [""])
            local = random.choice("klm")
            if (scope.get(p) if p else None, local) in seen:
                continue
            seen.add((scope.get(p) if p else None, local))
            value = random.choice(["1", "&quot;", " &#9; ", "&amp;&lt;>", "'"])
            parts.append(f' {p + ":" if p else ""}{local}="{value}"')
        random.shuffle(parts)
        inside = ""
        for _ in range(random.randrange(4)) if depth < 4 else []:
            inside += random.choice(
                [
                    lambda: element(depth + 1, scope),
                    lambda: element(depth + 1, scope),
                    lambda: random.choice(["t", "&gt;", "&#13;", "<![CDATA[&]]>", " \n"]),
                    lambda: "<!--c-->",
                ]
            )()
        return f"<{name}{''.join(parts)}>{inside}</{name}>"

    return element(0, {})


def canonical():
    generator = random.Random(20260314)
    cases = []
    texts = WRITTEN + [grown(generator) for _ in range(150)]
    for text in texts:
        root = etree.fromstring(text.encode())
        variants = []
        for comments, prefixes in [(False, None), (True, None), (False, ["a", "b"])]:
            expected = etree.tostring(
                root,
                method="c14n",
                exclusive=True,
                with_comments=comments,
                inclusive_ns_prefixes=prefixes,
            ).decode()
            variants.append({"comments": comments, "prefixes": prefixes or [], "expected": expected})
        cases.append({"text": text, "variants": variants})
    lines = ",\n".join(json.dumps(case) for case in cases)
    (HERE / "canonical.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    canonical()
    signed()
